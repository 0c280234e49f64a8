"""BitFit trains biases: neither less nor what is only called like one."""

import pytest
import torch
from torch import nn

from mmsigma.models.tuners.bitfit import BitFit
from mmsigma.models.tuners.injection import AdapterBank, InjectionContext
from tests.tiny import TRUNKS, backbone, images, loss


class Windowed(nn.Module):
    """A layer like Swin's, with a table of position biases beside real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
        self.bias_proj = nn.Linear(2, 2, bias=False)
        self.norm = nn.LayerNorm(2)
        self.conv = nn.Conv2d(2, 2, 1)
        self.shared = self.conv
        self.bias = nn.Parameter(torch.zeros(2))
        self.q_bias = nn.Parameter(torch.zeros(2))
        self.register_buffer('k_bias', torch.zeros(2))
        self.v_bias = None
        self.position_bias = nn.Parameter(torch.zeros(3, 2))
        self.in_proj_bias = nn.Parameter(torch.zeros(2))
        self.logit_scale = nn.Parameter(torch.zeros(2))


def test_a_bias_is_what_a_module_calls_bias() -> None:
    trunk = Windowed()
    chosen = list(BitFit().attach(InjectionContext(trunk, [], False, AdapterBank())))
    names = {id(p): name for name, p in trunk.named_parameters()}
    assert sorted(names[id(p)] for p in chosen) == [
        'bias',
        'conv.bias',
        'in_proj_bias',
        'norm.bias',
        'q_bias',
    ]


@pytest.mark.parametrize('trunk', ['beit', 'eva-post-norm', 'swinv2', 'mmpretrain-beit'])
def test_attention_without_a_bias_for_keys(trunk: str) -> None:
    own = backbone(trunk, 'BitFit')
    trained = [name for name, p in own.trunk.named_parameters() if p.requires_grad]
    for kept in ('q_bias', 'v_bias'):
        found = [name for name in trained if name.endswith(f'.{kept}')]
        assert len(found) == TRUNKS[trunk].depth
    assert not [name for name in trained if 'table' in name]


def test_blocks_that_do_not_run_stay_frozen() -> None:
    own = backbone('dinov2', 'BitFit', out_indices=[0])
    trained = {name for name, p in own.named_parameters() if p.requires_grad}
    assert any(name.startswith('trunk.model.blocks.0.') for name in trained)
    assert not any(name.startswith('trunk.model.blocks.1.') for name in trained)
    loss(own(images())).backward()
    assert trained == {name for name, p in own.named_parameters() if p.grad is not None}
