"""AdaptedBackbone: output blocks, sizes, and what runs and trains."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.models.tuners.injection import POSITIONS
from tests.tiny import (
    KINDS,
    TRUNKS,
    backbone,
    images,
    loss,
    map_shapes,
    padded,
    same,
    shake,
    sigma,
)


def deep(depth: int) -> dict:
    """Options of a tiny trunk of another depth, with random weights."""
    args = {**TRUNKS['dinov2'].config['model_args'], 'depth': depth}
    return {'model_args': args, 'weights': 'random'}


@pytest.mark.parametrize(
    ('depth', 'expected'),
    [
        (1, (0,)),
        (2, (0, 1)),
        (3, (0, 1, 2)),
        (4, (0, 1, 2, 3)),
        (8, (1, 3, 5, 7)),
        (12, (2, 5, 8, 11)),
    ],
)
def test_default_output_blocks(depth: int, expected: tuple) -> None:
    own = backbone(tuner='Frozen', trunk_options=deep(depth))
    assert own.out_indices == expected
    assert own.out_channels == [32] * len(expected)
    assert len(own(images())) == len(expected)


@pytest.mark.parametrize('out_indices', [[0], [1], [-1], [1, 0], [0, 2], [-3, -1]], ids=str)
def test_output_blocks_are_a_choice_among_all(out_indices: list[int]) -> None:
    torch.manual_seed(0)
    every = backbone(tuner='Frozen', trunk_options=deep(3), out_indices=[0, 1, 2])
    some = backbone(tuner='Frozen', trunk_options=deep(3), out_indices=out_indices)
    maps = every(images())
    assert same(some(images()), tuple(maps[i] for i in sorted(i % 3 for i in out_indices)))


@pytest.mark.parametrize(
    ('out_indices', 'parts'),
    [([2], ['[2]', '2 blocks', '0 to 1']), ([], ['[]']), ([0, 0], ['[0, 0]', 'once'])],
)
def test_output_block_errors(out_indices: list[int], parts: list[str]) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        backbone(out_indices=out_indices)
    assert all(part in str(caught.value) for part in ['out_indices', *parts]), caught.value


@pytest.mark.parametrize('tuner', ['SIGMA', 'Full', 'BitFit', 'Mona'])
def test_blocks_behind_the_last_output_neither_run_nor_train(tuner: str) -> None:
    own = backbone(tuner=tuner, out_indices=[0])
    used, unused = (b.module for b in own.trunk.blocks())
    for inner in unused.modules():
        inner.register_forward_hook(lambda *_: pytest.fail('ran'))
    shake(own)
    loss(own(images())).backward()
    assert not any(p.requires_grad for p in unused.parameters())
    assert set(own.adapters.at) <= {'0'}
    # Nothing waits for a gradient in vain: data-parallel training would hang.
    assert all(p.grad is not None for p in own.parameters() if p.requires_grad)
    assert any(p.requires_grad for p in used.parameters()) == (tuner in ('Full', 'BitFit'))


SIZES = [(16, 16), (19, 43), (57, 83), (70, 16)]


@pytest.mark.parametrize(
    ('trunk', 'height', 'width'),
    [
        *((trunk, 57, 83) for trunk in TRUNKS if trunk not in KINDS),
        *((trunk, *size) for trunk in KINDS for size in SIZES),
    ],
)
def test_any_size(trunk: str, height: int, width: int) -> None:
    own = backbone(trunk)
    shake(own)
    x = images(trunk, height, width, batch=1)
    before = x.clone()
    maps = own(x)
    shapes = map_shapes(trunk, height, width)
    assert [tuple(m.shape) for m in maps] == [(1, *shape) for shape in shapes]
    assert all(m.is_contiguous() and m.dtype == torch.float32 for m in maps)
    # Padding is zeros at the right and bottom, and the input stays as it was.
    assert torch.equal(x, before)
    whole = own(padded(trunk, x))
    assert same(tuple(m[..., :h, :w] for m, (_, h, w) in zip(whole, shapes, strict=True)), maps)


def test_images_of_a_batch_are_independent() -> None:
    own = backbone(tuner=sigma(position='both'))
    shake(own)
    x = images(batch=3)
    for i, image in enumerate(x):
        for batched, alone in zip(own(x), own(image[None]), strict=True):
            assert torch.allclose(batched[i], alone[0], atol=1e-5)


@pytest.mark.parametrize('trunk', [name for name in TRUNKS if TRUNKS[name].dropout])
def test_trunk_mode_decides_about_dropout(trunk: str) -> None:
    args = {**TRUNKS[trunk].config['model_args'], TRUNKS[trunk].dropout: 0.5}

    def twice(mode: str, training: bool) -> bool:
        own = backbone(trunk, trunk_options={'mode': mode, 'model_args': args}).train(training)
        return same(own(images(trunk)), own(images(trunk)))

    assert twice('eval', True) and twice('eval', False) and twice('train', False)
    assert not twice('train', True)


@pytest.mark.parametrize('trunk', KINDS)
def test_init_weights_of_a_model_leaves_the_trunk_alone(trunk: str) -> None:
    model = BaseModule()
    model.backbone = backbone(trunk)
    model.neck = BaseModule(init_cfg={'type': 'Constant', 'layer': 'Conv2d', 'val': 1.0})
    model.neck.conv = nn.Conv2d(2, 2, 1)
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    model.init_weights()
    assert (model.neck.conv.weight == 1).all()
    assert all(torch.equal(p, before[name]) for name, p in model.backbone.named_parameters())


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        (
            {'tuner': {'type': 'SIGNA'}},
            ["tuner 'SIGNA'", "mean 'SIGMA'", 'Frozen', 'registry.TUNERS'],
        ),
        ({'tuner': {'type': 'SIGMA', 'botleneck': 8}}, ["'botleneck'", "mean 'bottleneck'"]),
        ({'tuner': {'type': 'Frozen', 'rank': 8}}, ["tuner Frozen 'rank'"]),
        (
            {'trunk_options': {'type': 'TimVit'}},
            ["trunk 'TimVit'", "mean 'TimmViT'", 'MMPretrainViT'],
        ),
        ({'trunk_options': {'dtyp': 'float16'}}, ["trunk TimmViT 'dtyp'", "mean 'dtype'"]),
    ],
    ids=str,
)
def test_unknown_names(arguments: dict, parts: list[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        backbone(**arguments)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize('trunk', [t for t in TRUNKS if TRUNKS[t].positions != POSITIONS])
def test_undivided_blocks_refuse_what_sits_inside(trunk: str) -> None:
    for tuner in ('Mona', sigma(position='after_mlp')):
        with pytest.raises(InvalidSettingError, match=r'runs as a whole.*after_block'):
            backbone(trunk, tuner)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_autocast_is_the_surroundings_autocast_around_the_backbone_alone(dtype: str) -> None:
    torch.manual_seed(0)
    plain, own = backbone(tuner='SIGMA'), backbone(tuner='SIGMA', autocast=dtype)
    shake(plain)
    own.load_state_dict(plain.state_dict())
    with torch.autocast('cpu', getattr(torch, dtype)):
        expected = plain(images())
    found = own(images())
    assert all(grid.dtype == torch.float32 for grid in found)
    assert same(found, expected)
    assert not same(found, plain(images()))
    with pytest.raises(UnknownNameError, match='bfloat16'):
        backbone(tuner='SIGMA', autocast='half')
