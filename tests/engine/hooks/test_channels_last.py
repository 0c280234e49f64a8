"""ChannelsLastHook: the order of memory behind the backbone changes, and nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.samples import batch  # of tools/analysis_tools
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmsigma.registry import HOOKS
from tests.fixtures import ROOT, TINY

HEADS = ['upernet', 'retinanet', 'mask-rcnn']
Seen = dict[str, list[bool]]


def segmenter() -> Any:
    config = Config.fromfile(ROOT / 'configs/camvid/sigma_dinov2-s_upernet_camvid-448x336.py')
    config.model.backbone.trunk.update(weights='random', model_args=TINY)
    config.model.backbone.update(out_indices=[0, 1, 2, 3], tuner=dict(type='SIGMA', bottleneck=8))
    config.model.neck.update(in_channels=[32] * 4, out_channels=16)
    config.model.decode_head.update(
        in_channels=[16] * 4, channels=16, pool_scales=(1, 2), dropout_ratio=0
    )
    return config


def model(head: str, hook: bool) -> Any:
    """A tiny model in training mode, as a run has it that begins."""
    if head == 'upernet':
        config = segmenter()
    else:
        pytest.importorskip('mmdet')
        from tests.detectors import leaf, tiny

        config = tiny(leaf(head), Path('data'))
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    found = MODELS.build(config.model).train()
    with torch.no_grad():
        for parameter in found.backbone.adapters.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    if hook:
        own = HOOKS.build(dict(type='mmsigma.ChannelsLastHook'))
        own.before_run(SimpleNamespace(model=found))
        own.before_run(SimpleNamespace(model=found))  # as a test at the end of a training does
    return found


def step(own: Any, head: str) -> dict[str, Tensor]:
    """Losses, and gradients of all that trains."""
    torch.manual_seed(1)
    scope = 'mmseg' if head == 'upernet' else 'mmdet'
    data = own.data_preprocessor(batch(scope, (72, 96), 2), training=True)
    total, losses = own.parse_losses(own(**data, mode='loss'))
    total.backward()
    found = {name: value.detach() for name, value in losses.items()}
    return found | {n: p.grad for n, p in own.named_parameters() if p.grad is not None}


def watched(own: nn.Module) -> Seen:
    """Of each kind of layer, whether the maps that come to it are contiguous."""
    seen: Seen = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].dim() == 4 and min(inputs[0].shape[1:]) > 1:
            seen.setdefault(type(module).__name__, []).append(inputs[0].is_contiguous())

    for name, module in own.named_modules():
        kinds = ('Conv2d', 'ConvTranspose2d', 'RoIAlign')
        if not name.startswith('backbone.') and type(module).__name__ in kinds:
            module.register_forward_pre_hook(note)
    return seen


@pytest.mark.parametrize('head', HEADS)
def test_losses_and_gradients_are_those_without(head: str) -> None:
    plain, other = model(head, False), model(head, True)
    assert [type(m) for m in plain.modules()] == [type(m) for m in other.modules()]
    expected, found = step(plain, head), step(other, head)
    assert expected.keys() == found.keys()
    largest = max(value.norm() for value in expected.values())
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 5e-4 * value.norm() + 1e-7 * largest, name


@pytest.mark.parametrize('hook', [True, False])
@pytest.mark.parametrize('head', HEADS)
def test_the_order_of_memory(head: str, hook: bool) -> None:
    own = model(head, hook)
    seen = watched(own)
    step(own, head)
    assert len(seen['Conv2d']) > 8
    assert any(seen['Conv2d']) != hook
    assert ('RoIAlign' in seen) == (head == 'mask-rcnn')
    assert all(seen.get('RoIAlign', []))


def test_levels_of_the_neck_need_no_copy() -> None:
    own = model('upernet', True)
    levels = own.neck(own.backbone(torch.randn(2, 3, 56, 84)))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in levels)
    assert not any(x.is_contiguous() for x in levels)


@pytest.mark.parametrize('head', HEADS[:2])
def test_checkpoints_are_those_without(head: str) -> None:
    plain, other = model(head, False).state_dict(), model(head, True).state_dict()
    assert plain.keys() == other.keys()
    for name, value in plain.items():
        assert torch.equal(value, other[name]) and value.stride() == other[name].stride(), name
