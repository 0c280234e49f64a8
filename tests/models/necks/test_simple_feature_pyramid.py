"""SimpleFeaturePyramid: shapes, an independent reference, errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmsigma.errors import InvalidSettingError, MMSigmaError, UnknownNameError
from mmsigma.models.necks import SimpleFeaturePyramid
from mmsigma.registry import MODELS
from tests.tiny import backbone, images, shake

SCALES = (4, 2, 1, 0.5)


def maps(height: int = 5, width: int = 3, count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 16, height, width, generator=generator) for _ in range(count)]


@pytest.mark.parametrize('source', ['last', 'each'])
@pytest.mark.parametrize(('height', 'width'), [(4, 4), (5, 3), (1, 7), (1, 1)])
def test_shapes(height: int, width: int, source: str) -> None:
    neck = SimpleFeaturePyramid([16] * 4, out_channels=8, source=source)
    levels = neck(maps(height, width))
    expected = [(2, 8, math.ceil(height * scale), math.ceil(width * scale)) for scale in SCALES]
    assert [tuple(level.shape) for level in levels] == expected


def test_levels_of_patches_of_14() -> None:
    """The nearest powers of two, since no level is at strides 4, 8, 16 and 32 exactly."""
    neck = SimpleFeaturePyramid([16] * 4, out_channels=8, in_strides=[14] * 4)
    assert [level.shape[-1] for level in neck(maps(4, 4))] == [16, 8, 4, 2]


@pytest.mark.parametrize('source', ['last', 'each'])
def test_levels_are_contiguous(source: str) -> None:
    """Operators of mmcv read them as they lie in memory, and say nothing if that is otherwise."""
    neck = SimpleFeaturePyramid([16] * 4, out_channels=8, source=source, pooled=1)
    assert [level.is_contiguous() for level in neck(maps())] == [True] * 5


def test_regions_are_those_of_the_levels() -> None:
    """mmcv's RoIAlign on the neck's levels against one pixel read by hand."""
    ops = pytest.importorskip('mmcv.ops')
    level = SimpleFeaturePyramid([16] * 4, out_channels=8)(maps(5, 3))[0]
    # A region of one pixel, sampled in its middle: row 7, column 4.
    region = torch.tensor([[1.0, 4.0, 7.0, 5.0, 8.0]])
    found = ops.roi_align(level, region, 1, 1.0, 1)
    torch.testing.assert_close(found[0, :, 0, 0], level[1, :, 7, 4])


def reference(state: dict[str, Tensor], x: Tensor, scale: float) -> Tensor:
    """One level, from the tensors of its state dict in order."""
    values = iter(state.values())

    def norm(x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        unit = (x - mean) / ((x - mean).square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return unit * next(values)[:, None, None] + next(values)[:, None, None]

    def double(x: Tensor) -> Tensor:
        """A 2x2 transposed convolution of stride 2: every pixel becomes four, on its own."""
        weight, bias = next(values), next(values)  # (in, out, 2, 2)
        b, _, h, w = x.shape
        fine = torch.einsum('bihw,iokl->bohkwl', x, weight).reshape(b, -1, 2 * h, 2 * w)
        return fine + bias[:, None, None]

    if scale == 4:
        x = double(F.gelu(norm(double(x))))
    elif scale == 2:
        x = double(x)
    elif scale == 0.5:
        rows = [x[..., i : i + 2, :].amax(dim=-2) for i in range(0, x.shape[-2], 2)]
        x = torch.stack(rows, dim=-2)
        columns = [x[..., i : i + 2].amax(dim=-1) for i in range(0, x.shape[-1], 2)]
        x = torch.stack(columns, dim=-1)
    x = norm(torch.einsum('oi,bihw->bohw', next(values)[:, :, 0, 0], x))
    weight, padded = next(values), F.pad(x, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # (b, c, h, w, 3, 3)
    x = norm(torch.einsum('bchwkl,ockl->bohw', patches, weight))
    assert next(values, None) is None
    return x


@pytest.mark.parametrize('source', ['last', 'each'])
@pytest.mark.parametrize('level', range(4))
def test_levels_equal_the_reference(level: int, source: str) -> None:
    neck = SimpleFeaturePyramid([16] * 4, out_channels=8, source=source).double()
    shake(neck)
    given = [m.double() for m in maps()]
    read = given[level] if source == 'each' else given[-1]
    with torch.no_grad():
        expected = reference(neck.levels[level].state_dict(), read, SCALES[level])
        assert torch.allclose(neck(given)[level], expected, rtol=0, atol=1e-10)


def test_maps_of_a_hierarchical_trunk_keep_their_resolution() -> None:
    widths, strides = (8, 16, 32, 64), (4, 8, 16, 32)
    neck = SimpleFeaturePyramid(widths, 8, in_strides=strides, source='each')
    sizes = [(12, 7), (6, 4), (3, 2), (2, 1)]
    given = [torch.randn(1, c, *size) for c, size in zip(widths, sizes, strict=True)]
    assert [tuple(level.shape[2:]) for level in neck(given)] == sizes
    # All levels from a last map of stride 32: up to three doublings.
    neck = SimpleFeaturePyramid(widths, 8, in_strides=strides)
    assert [level.shape[-1] for level in neck(given)] == [8, 4, 2, 1]


@pytest.mark.parametrize('pooled', [1, 2])
def test_further_levels_are_every_second_row_and_column(pooled: int) -> None:
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid([16] * 4, 8, pooled=pooled)
    levels = neck(maps(9, 6))
    assert len(levels) == 4 + pooled
    for i in range(4, 4 + pooled):
        fine, coarse = levels[i - 1], levels[i]
        assert torch.equal(coarse, fine[..., ::2, ::2])
    plain = SimpleFeaturePyramid([16] * 4, 8)
    assert plain.state_dict().keys() == neck.state_dict().keys()
    plain.load_state_dict(neck.state_dict())
    assert all(map(torch.equal, plain(maps(9, 6)), levels[:4]))


def test_small_patches_are_pooled() -> None:
    neck = SimpleFeaturePyramid([16] * 4, 8, in_strides=[8] * 4, source='each')
    levels = neck(maps(9, 8))
    assert [tuple(level.shape[2:]) for level in levels] == [(18, 16), (9, 8), (5, 4), (3, 2)]


def test_follows_a_backbone_by_name() -> None:
    own = backbone()
    neck = MODELS.build(
        {
            'type': 'mmsigma.SimpleFeaturePyramid',
            'in_channels': own.out_channels,
            'in_strides': own.out_strides,
            'strides': [7, 14],
        }
    )
    levels = neck(own(images(height=57, width=83)))
    assert [tuple(level.shape) for level in levels] == [(2, 256, 10, 12), (2, 256, 5, 6)]


@pytest.mark.parametrize(
    ('arguments', 'error', 'parts'),
    [
        ({'source': 'lats'}, UnknownNameError, ["'lats'", "mean 'last'", 'each']),
        ({'strides': [4, 0]}, InvalidSettingError, ['[4, 0]', 'above zero']),
        ({'in_strides': [16, 16]}, InvalidSettingError, ['[16, 16]', '[16, 16, 16, 16]']),
        ({'in_channels': [16], 'source': 'each'}, InvalidSettingError, ['[16]', '4 levels']),
        ({'in_channels': [18] * 4}, InvalidSettingError, ['18', '2 times', 'stride 4']),
        ({'in_channels': []}, InvalidSettingError, ['[]']),
        ({'pooled': -1}, InvalidSettingError, ['-1', '0 levels or more']),
    ],
    ids=str,
)
def test_errors(arguments: dict, error: type[MMSigmaError], parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        SimpleFeaturePyramid(**{'in_channels': [16] * 4, **arguments})
    assert all(part in str(caught.value) for part in parts), caught.value
