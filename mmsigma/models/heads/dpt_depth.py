"""Depth from four maps, fused from coarse to fine.

The decoder of DPT (Ranftl et al., ICCV 2021, arXiv 2103.13413, section 3). mmseg's ``DPTHead`` is
that for classes alone and reads class tokens, mmseg's ``VPDDepthHead`` is another decoder.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmsigma.errors import InvalidSettingError
from mmsigma.registry import MODELS


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)


class _Residual(nn.Module):
    """Two convolutions with their activations before them, and a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


@MODELS.register_module()
class DPTDepthHead(nn.Module):
    """Decoder of DPT on a pyramid of four maps, with depth in metres as its one output.

    ``SimpleFeaturePyramid(source='each')`` before it does what DPT calls reassembling, for plain
    and for hierarchical trunks. For mmseg's ``DepthEstimator``.

    Args:
        in_channels: Channels of each map, the finest first.
        channels: Width of the decoder.
        max_depth: Depth of a saturated output, in metres.
        loss_decode: Config of the loss between depths ``(B, 1, H, W)`` in metres.

    Raises:
        InvalidSettingError: No maps, or a depth that is not above zero.
    """

    num_classes = 1
    out_channels = 1
    align_corners = False

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        max_depth: float = 10.0,
        loss_decode: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not in_channels or not max_depth > 0:
            raise InvalidSettingError(
                'DPTDepthHead needs the channels of its maps and a depth above zero; given: '
                f'in_channels={list(in_channels)}, max_depth={max_depth}.'
            )
        self.max_depth = max_depth
        self.projections = nn.ModuleList(
            nn.Conv2d(width, channels, 3, padding=1, bias=False) for width in in_channels
        )
        self.skips = nn.ModuleList(_Residual(channels) for _ in in_channels[:-1])
        self.fusions = nn.ModuleList(_Residual(channels) for _ in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in in_channels)
        self.depth = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels // 2, 1, 1),
        )
        self.loss_decode = ROOT_MODELS.build(loss_decode or {'type': 'mmseg.SiLogLoss'})

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Depth ``(B, 1, 2 h, 2 w)`` in metres, where the finest map is ``(B, C, h, w)``."""
        levels = [project(x) for project, x in zip(self.projections, maps, strict=True)]
        x = levels[-1]
        for i in reversed(range(len(levels))):
            if i < len(levels) - 1:
                x = x + self.skips[i](levels[i])
            finer = levels[i - 1] if i else levels[0]
            scale = 1 if i else 2
            x = self.fusions[i](x)
            x = _resize(x, [scale * side for side in finer.shape[-2:]])
            x = self.outputs[i](x)
        return torch.sigmoid(self.depth(x)) * self.max_depth

    def loss(self, maps: Sequence[Tensor], samples: Sequence[Any], _: Any) -> dict[str, Tensor]:
        """The loss against ``gt_depth_map`` ``(1, H, W)`` of every sample, in metres."""
        truth = torch.stack([sample.gt_depth_map.data for sample in samples])
        depth = _resize(self(maps), truth.shape[-2:])
        return {self.loss_decode.loss_name: self.loss_decode(depth, truth)}

    def predict(self, maps: Sequence[Tensor], metas: Sequence[dict[str, Any]], _: Any) -> Tensor:
        """Depth ``(B, 1, H, W)`` in metres, at the size of the image that the maps are of."""
        return _resize(self(maps), metas[0]['img_shape'][:2])
