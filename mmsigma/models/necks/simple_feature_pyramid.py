"""Simple feature pyramid of ViTDet (Li et al., ECCV 2022, arXiv 2203.16527, section 3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.registry import MODELS

STRIDES = (4, 8, 16, 32)
SOURCES = ('last', 'each')


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of a map ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)`` over C."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _resample(width: int, octaves: int) -> tuple[list[nn.Module], int]:
    """Layers that double a map's resolution ``octaves`` times (or halve it), and their width."""
    layers: list[nn.Module] = []
    for octave in range(octaves):
        if octave:
            layers += [ChannelLayerNorm(width), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, width // 2, 2, 2))
        width //= 2
    # A single row or column has no half: ceil keeps one.
    layers += [nn.MaxPool2d(2, 2, ceil_mode=True) for _ in range(-octaves)]
    return layers, width


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """Levels of strides 4, 8, 16 and 32 from the maps of a trunk.

    Each level resamples a map by the nearest power of two (transposed convolutions, or max
    pooling), then a 1x1 and a 3x3 convolution bring it to ``out_channels``, each with a layer norm.
    A plain trunk of patch 14 so gives strides 3.5, 7, 14 and 28; the maps of a hierarchical trunk
    stay at their resolution.

    Args:
        in_channels: Channels of each input map.
        out_channels: Channels of every level.
        in_strides: Side of a token of each input map, in pixels; 16 for all by default.
        strides: Side of a token of each level, in pixels.
        source: ``last``: all levels from the last map, as in ViTDet. ``each``: level i from map i.
        pooled: Number of further levels, without weights: each is every second row and column of
            the level before it, as ViTDet and FPN make the coarsest one for region proposals.

    Raises:
        UnknownNameError: A source that does not exist.
        InvalidSettingError: Lists of other lengths, strides that are no positive numbers, a
            negative ``pooled``, or a width that cannot be halved as often as its map is doubled.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_strides: Sequence[float] | None = None,
        strides: Sequence[float] = STRIDES,
        source: str = 'last',
        pooled: int = 0,
    ) -> None:
        super().__init__()
        if pooled < 0:
            raise InvalidSettingError(
                f'SimpleFeaturePyramid pools 0 levels or more; given: {pooled}.'
            )
        if source not in SOURCES:
            raise UnknownNameError(unknown('SimpleFeaturePyramid source', source, SOURCES))
        given = [16.0] * len(in_channels) if in_strides is None else list(in_strides)
        counts = {len(in_channels), len(given), *([len(strides)] if source == 'each' else [])}
        if not in_channels or len(counts) != 1:
            raise InvalidSettingError(
                'SimpleFeaturePyramid needs one width and one stride per map, and one map per '
                f"level for source='each'; given: in_channels={list(in_channels)}, "
                f'in_strides={given}, {len(strides)} levels.'
            )
        if any(not isinstance(s, int | float) or s <= 0 for s in (*given, *strides)):
            raise InvalidSettingError(
                'Strides of SimpleFeaturePyramid are numbers of pixels above zero; given: '
                f'in_strides={given}, strides={list(strides)}.'
            )
        self.source = source
        self.pooled = pooled
        self.levels = nn.ModuleList()
        for i, stride in enumerate(strides):
            read = i if source == 'each' else -1
            width, octaves = in_channels[read], round(math.log2(given[read] / stride))
            if width % 2 ** max(0, octaves):
                raise InvalidSettingError(
                    f'SimpleFeaturePyramid cannot halve {width} channels {octaves} times, which '
                    f'the level of stride {stride:g} needs from a map of stride {given[read]:g}.'
                )
            layers, reduced = _resample(width, octaves)
            self.levels.append(
                nn.Sequential(
                    *layers,
                    nn.Conv2d(reduced, out_channels, 1, bias=False),
                    ChannelLayerNorm(out_channels),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                    ChannelLayerNorm(out_channels),
                )
            )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels ``(B, out_channels, h', w')``, resampled, of maps ``(B, C, h, w)``."""
        sources = maps if self.source == 'each' else [maps[-1]] * len(self.levels)
        # In the order of memory of the maps. The norms leave channels last, and mmcv's RoIAlign
        # reads such a map wrongly, without a word: it takes every map for a contiguous one.
        last = all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)
        usual = not last or all(x.is_contiguous() for x in maps)
        order = torch.contiguous_format if usual else torch.channels_last
        levels = [
            level(x).contiguous(memory_format=order)
            for level, x in zip(self.levels, sources, strict=True)
        ]
        for _ in range(self.pooled):
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)
