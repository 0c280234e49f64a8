"""HFPeft: the bridge to peft, against LoRA by its formula, for several types, and its errors."""

import pytest
import torch

from mmsigma.errors import InvalidSettingError, MMSigmaError, UnknownNameError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.tiny import backbone, images, loss, same, shake

ATTENTION = ['attn.proj', 'attn.qkv']
TYPES = {
    'LORA': {'r': 4, 'lora_alpha': 8, 'target_modules': ATTENTION},
    'DoRA': {'peft_type': 'LORA', 'r': 4, 'use_dora': True, 'target_modules': ATTENTION},
    'IA3': {'target_modules': ['qkv', 'fc2'], 'feedforward_modules': ['fc2']},
    'OFT': {'oft_block_size': 8, 'r': 0, 'target_modules': ATTENTION},
    'BOFT': {'boft_block_size': 4, 'target_modules': ATTENTION},
    'VERA': {'r': 8, 'target_modules': ['attn.proj']},
    'LN_TUNING': {'target_modules': ['norm1', 'norm2']},
    'LOHA': {'r': 4, 'target_modules': ATTENTION},
}


def bridge(name: str, trunk: str = 'registers', **options) -> AdaptedBackbone:
    return backbone(trunk, {'type': 'HFPeft', 'peft_type': name, **TYPES.get(name, {}), **options})


@pytest.mark.parametrize('name', TYPES)
def test_types_start_as_the_frozen_model_train_and_reload(name: str) -> None:
    x, own = images('registers'), bridge(name)
    with torch.no_grad():
        for ours, frozen in zip(own(x), backbone('registers', 'Frozen')(x), strict=True):
            assert torch.allclose(ours, frozen, atol=1e-4)
    shake(own)
    loss(own(x)).backward()
    trained = {n: p for n, p in own.named_parameters() if p.requires_grad}
    assert trained and all(p.grad is not None and p.grad.any() for p in trained.values())
    again = bridge(name)
    again.load_state_dict(own.state_dict())
    assert same(again(x), own(x))
    assert not same(backbone('registers', 'Frozen')(x), own(x))


def test_lora_is_the_formula() -> None:
    """W x + (alpha / r) B A x, in float64, in a trunk whose weights were changed so by hand."""
    own = bridge('LORA').double()
    shake(own)
    by_hand = backbone('registers', 'Frozen').double()
    tensors = dict(own.trunk.named_parameters())
    with torch.no_grad():
        for name, weight in by_hand.trunk.named_parameters():
            for module in ATTENTION:
                if name.endswith(f'{module}.weight'):
                    path = name.removesuffix('weight')
                    a = tensors[f'{path}lora_A.default.weight']
                    b = tensors[f'{path}lora_B.default.weight']
                    weight += 8 / 4 * b @ a
        x = images('registers').double()
        for ours, expected in zip(own(x), by_hand(x), strict=True):
            assert torch.allclose(ours, expected, rtol=0, atol=1e-9)


def test_settings_are_recorded() -> None:
    from mmsigma.errors import CheckpointMismatchError

    state = bridge('LORA').state_dict()
    with pytest.raises(CheckpointMismatchError, match='lora_alpha: 8 in the checkpoint, 16'):
        bridge('LORA', lora_alpha=16).load_state_dict(state)


@pytest.mark.parametrize(
    ('name', 'options', 'trunk', 'error', 'parts'),
    [
        ('LORRA', {}, 'registers', UnknownNameError, ["'LORRA'", "mean 'LORA'", 'IA3']),
        ('LORA', {'rank': 4}, 'registers', UnknownNameError, ["peft LORA 'rank'", 'alpha_pattern']),
        ('LORA', {'r': 0}, 'registers', InvalidSettingError, ['LORA', '`r`']),
        (
            'LORA',
            {'target_modules': ['q_proj']},
            'registers',
            InvalidSettingError,
            ['q_proj', 'fc1, fc2, proj, qkv'],
        ),
        ('LORA', {'target_modules': ['qkv']}, 'beit', InvalidSettingError, ['qkv', 'no effect']),
        ('PROMPT_TUNING', {'num_virtual_tokens': 2}, 'registers', MMSigmaError, ['PROMPT_TUNING']),
    ],
    ids=str,
)
def test_errors(
    name: str, options: dict, trunk: str, error: type[MMSigmaError], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        bridge(name, trunk, **options)
    assert all(part in str(caught.value) for part in parts), caught.value
