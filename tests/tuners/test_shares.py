"""Shares of trainable parameters on Swin-B and Swin-L, against those computed for Mona."""

import pytest
import torch

from mmsigma.backbone import AdaptedBackbone

# Percent of the trunk, Swin-B and Swin-L; adapters sit in every block.
SHARES = {
    'Mona': (4.23, 2.70),
    'Adapter': (3.58, 2.39),
    'AdaptFormer': (1.79, 1.19),
    'NormTuning': (0.07, 0.05),
    'Partial': (14.53, 14.53),
    'Partial+norm': (14.53, 14.53),
    # 0.23 and 0.16 where the search is for the substring `bias`: that trains the tables of
    # relative position biases too. See test_bitfit_by_substring.
    'BitFit': (0.158, 0.106),
}
SETTINGS = {'Partial+norm': {'type': 'Partial', 'final_norm': True}}


def build(size: str, tuner: dict) -> AdaptedBackbone:
    name = f'swin_{size}_patch4_window7_224'
    with torch.device('meta'):
        return AdaptedBackbone({'type': 'TimmSwin', 'model_name': name, 'weights': 'random'}, tuner)


@pytest.mark.parametrize('tuner', SHARES)
@pytest.mark.parametrize(('size', 'total'), [('base', 86.7e6), ('large', 195.0e6)])
def test_share(size: str, total: float, tuner: str) -> None:
    own = build(size, SETTINGS.get(tuner, {'type': tuner}))
    trunk = sum(p.numel() for p in own.trunk.parameters())
    trained = sum(p.numel() for p in own.parameters() if p.requires_grad)
    assert trunk == pytest.approx(total, rel=0.001)
    assert 100 * trained / trunk == pytest.approx(SHARES[tuner][size == 'large'], abs=0.02)


@pytest.mark.parametrize(('size', 'share'), [('base', 0.23), ('large', 0.16)])
def test_bitfit_by_substring(size: str, share: float) -> None:
    """The figure that comparisons give for BitFit is that of a search for a substring."""
    own = build(size, {'type': 'BitFit'})
    named = dict(own.trunk.named_parameters())
    trunk = sum(p.numel() for p in named.values())
    found = sum(p.numel() for name, p in named.items() if 'bias' in name)
    assert 100 * found / trunk == pytest.approx(share, abs=0.02)
    trained = sum(p.numel() for p in named.values() if p.requires_grad)
    tables = sum(p.numel() for name, p in named.items() if 'relative_position_bias' in name)
    assert found == trained + tables
