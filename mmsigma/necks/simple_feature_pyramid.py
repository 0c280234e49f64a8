"""Simple feature pyramid of ViTDet (Li et al., ECCV 2022, arXiv 2203.16527, section 3)."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.registry import MODELS

SCALES = (4, 2, 1, 0.5)
SOURCES = ('last', 'each')


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of a map ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)`` over C."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _resample(width: int, scale: float) -> tuple[list[nn.Module], int]:
    """Layers that change the resolution of a map by ``scale``, and the width they leave."""
    if scale == 4:
        return [
            nn.ConvTranspose2d(width, width // 2, 2, 2),
            ChannelLayerNorm(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, 2),
        ], width // 4
    if scale == 2:
        return [nn.ConvTranspose2d(width, width // 2, 2, 2)], width // 2
    if scale == 1:
        return [], width
    # A single row or column has no half: ceil keeps one.
    return [nn.MaxPool2d(2, 2, ceil_mode=True)], width


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """Strides 4, 8, 16 and 32 (of a patch of 16 pixels) from the maps of a plain trunk.

    Each level resamples a map (transposed convolutions, or max pooling), then a 1x1 and a 3x3
    convolution bring it to ``out_channels``, each with a layer norm.

    Args:
        in_channels: Channels of the input maps, all the same for a plain trunk.
        out_channels: Channels of every level.
        scales: Resolution of each level relative to the trunk's: among 4, 2, 1, 0.5.
        source: ``last``: all levels from the last map, as in ViTDet. ``each``: level i from map i.

    Raises:
        UnknownNameError: A source or scale that does not exist.
        InvalidSettingError: Widths that differ, or that scale 4 cannot quarter.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        scales: Sequence[float] = SCALES,
        source: str = 'last',
    ) -> None:
        super().__init__()
        if source not in SOURCES:
            raise UnknownNameError(unknown('SimpleFeaturePyramid source', source, SOURCES))
        for scale in scales:
            if scale not in SCALES:
                raise UnknownNameError(unknown('SimpleFeaturePyramid scale', scale, SCALES))
        if len(set(in_channels)) != 1 or (source == 'each' and len(in_channels) != len(scales)):
            raise InvalidSettingError(
                'SimpleFeaturePyramid reads maps of one width (and one map per level for '
                f"source='each'); given: in_channels={list(in_channels)}, {len(scales)} scales."
            )
        width = in_channels[0]
        if width % max(1, int(max(scales))):
            raise InvalidSettingError(f'A width of {width} cannot be divided by {max(scales)}.')
        self.source = source
        self.levels = nn.ModuleList()
        for scale in scales:
            layers, reduced = _resample(width, scale)
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
        """Levels ``(B, out_channels, scale * h, scale * w)`` of maps ``(B, C, h, w)``."""
        sources = maps if self.source == 'each' else [maps[-1]] * len(self.levels)
        return tuple(level(x) for level, x in zip(self.levels, sources, strict=True))
