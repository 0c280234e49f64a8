"""Shares of trainable parameters on Swin-B and Swin-L, against those computed for Mona."""

from typing import Any

import pytest
from mmengine.config import Config

from mmsigma.apis.params import of_trunk, shares

TRUNKS = {
    name: Config({'trunk': {'type': 'TimmSwin', 'model_name': f'swin_{name}_patch4_window7_224'}})
    for name in ('base', 'large')
}
SIZES = {'base': 86.7e6, 'large': 195.0e6}
# LoRA of rank 64 on query and value. timm keeps query, key and value in one Linear, and LoRA there
# is one A (64 x C) and one B (3C x 64): as many parameters as an A and a B for each of two.
LORA = {'type': 'HFPeft', 'peft_type': 'LORA', 'r': 64, 'target_modules': ['attn.qkv']}

# Percent of the trunk, Swin-B and Swin-L; adapters sit in every block.
SHARES: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    'Mona': ({'type': 'Mona'}, (4.23, 2.70)),
    'Adapter': ({'type': 'Adapter', 'bottleneck': 64}, (3.58, 2.39)),
    'AdaptFormer': ({'type': 'AdaptFormer', 'bottleneck': 64}, (1.79, 1.19)),
    'LoRA': (LORA, (3.55, 2.37)),
    'NormTuning': ({'type': 'NormTuning'}, (0.07, 0.05)),
    'Partial-1': ({'type': 'Partial'}, (14.53, 14.53)),
    'Partial-1 and norm': ({'type': 'Partial', 'final_norm': True}, (14.53, 14.53)),
    # 0.23 and 0.16 are stated where the search is for the substring `bias`: that trains the tables
    # of relative position biases too. See test_bitfit_by_substring.
    'BitFit': ({'type': 'BitFit'}, (0.158, 0.106)),
}


pytestmark = pytest.mark.slow  # builds Swin-L for every tuner


def test_shares() -> None:
    found = shares(TRUNKS, {name: tuner for name, (tuner, _) in SHARES.items()})
    for size, entry in found.items():
        assert entry['trunk'] == pytest.approx(SIZES[size], rel=0.001)
        for name, (_, expected) in SHARES.items():
            share = entry['tuners'][name]['share_percent']
            assert share == pytest.approx(expected[size == 'large'], abs=0.02), (size, name)
            # To the digits that we state ourselves.
            if name == 'BitFit':
                assert share == pytest.approx(expected[size == 'large'], abs=0.0005)


@pytest.mark.parametrize('size', SIZES)
def test_lora_counts_query_and_value(size: str) -> None:
    """The parameters of two separate updates, of query and value, in every block."""
    blocks = of_trunk(TRUNKS[size], {'type': 'Frozen'}).trunk.blocks()
    two = sum(2 * (64 * block.width + block.width * 64) for block in blocks)
    (found,) = shares({size: TRUNKS[size]}, {'LoRA': LORA})[size]['tuners'].values()
    assert found['adapters'] == found['trained'] == two


@pytest.mark.parametrize(('size', 'share'), [('base', 0.23), ('large', 0.16)])
def test_bitfit_by_substring(size: str, share: float) -> None:
    """The figure that comparisons give for BitFit is that of a search for a substring."""
    own = of_trunk(TRUNKS[size], {'type': 'BitFit'})
    named = dict(own.trunk.named_parameters())
    trunk = sum(p.numel() for p in named.values())
    found = sum(p.numel() for name, p in named.items() if 'bias' in name)
    assert 100 * found / trunk == pytest.approx(share, abs=0.01)
    trained = sum(p.numel() for p in named.values() if p.requires_grad)
    tables = sum(p.numel() for name, p in named.items() if 'relative_position_bias' in name)
    assert tables and found == trained + tables
