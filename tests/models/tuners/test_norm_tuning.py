"""Norm tuning goes by types, and trains no norm that nothing runs through."""

import pytest
import torch
from mmpretrain.models.utils import LayerNorm2d
from timm import layers
from timm.layers.grn import GlobalResponseNorm
from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.tuners.injection import AdapterBank, InjectionContext
from mmsigma.models.tuners.norm_tuning import NormTuning
from tests.tiny import TRUNKS, backbone, images, loss

NORMS = {
    'layer': nn.LayerNorm(4),
    'rms': nn.RMSNorm(4),
    'group': nn.GroupNorm(2, 4),
    'batch': nn.BatchNorm2d(4),
    'instance': nn.InstanceNorm2d(4, affine=True),
    'timm_layer': layers.LayerNorm(4),
    'timm_layer_2d': layers.LayerNorm2d(4),
    'timm_rms': layers.RmsNorm(4),
    'timm_rms_2d': layers.RmsNorm2d(4),
    'timm_simple': layers.SimpleNorm(4),
    'timm_group': layers.GroupNorm1(4),
    'timm_batch': layers.BatchNormAct2d(4),
    'mmpretrain_layer_2d': LayerNorm2d(4),
}


class Named(nn.Module):
    """Layers that are only called norms, beside norms."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Linear(4, 4)
        self.layer_norm_scale = nn.Parameter(torch.ones(4))
        self.grn = GlobalResponseNorm(4)
        self.norms = nn.ModuleDict(NORMS)
        self.plain = nn.LayerNorm(4, elementwise_affine=False)


def attach(trunk: nn.Module) -> list[str]:
    chosen = {id(p) for p in NormTuning().attach(InjectionContext(trunk, [], False, AdapterBank()))}
    return [name for name, p in trunk.named_parameters() if id(p) in chosen]


def test_a_norm_is_what_its_type_says() -> None:
    expected = [
        f'norms.{norm}.{name}' for norm in NORMS for name, _ in NORMS[norm].named_parameters()
    ]
    assert attach(Named()) == expected
    assert all(any(name.startswith(f'norms.{norm}.') for name in expected) for norm in NORMS)


def test_a_trunk_without_norms() -> None:
    with pytest.raises(InvalidSettingError, match='no norm with parameters'):
        attach(nn.Linear(2, 2))


@pytest.mark.parametrize('trunk', TRUNKS)
def test_what_nothing_runs_through_stays_frozen(trunk: str) -> None:
    """With the first output only, and without the norm at the end."""
    options = {'final_norm': False} if TRUNKS[trunk].norms == (True, False) else {}
    first = min(backbone(trunk, 'Frozen').trunk.outputs())
    own = backbone(trunk, 'NormTuning', trunk_options=options, out_indices=[first])
    trained = {name for name, p in own.named_parameters() if p.requires_grad}
    assert trained
    loss(own(images(trunk))).backward()
    assert trained == {name for name, p in own.named_parameters() if p.grad is not None}
