"""Windowed attention with a few global blocks, for plain trunks at detection resolution.

After ViTDet (Li et al., ECCV 2022, arXiv 2203.16527): most blocks attend inside windows of
``side x side`` tokens that do not overlap, some to the whole grid. Upstream's own attention runs,
with the windows of an image as further images of its batch. Two rules are this project's own:

- Windows that would reach over the right or bottom edge end there. ViTDet fills them with zeros,
  which then take part in attention; here no token does that is not the image's.
- ViTDet has no prefix tokens. Here those of an image (class token, registers, prompts) stand in
  every one of its windows, and what comes out for them is the mean over the windows, each
  weighted by its number of grid tokens.

A grid that one window covers is attended to as upstream does it, to the bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.block import resolve_indices
from mmsigma.models.trunks.tokens import TokenLayout

GLOBAL_BLOCKS = 4  # ViTDet's number, for ViT-B, L and H


@dataclass(frozen=True)
class Region:
    """Windows of one shape, side by side, on a part of the grid.

    Attributes:
        layout: The whole grid.
        top, bottom: Its rows, and ``height``, those of a window, in tokens.
        left, right: Its columns, and ``width``, those of a window, in tokens.
    """

    layout: TokenLayout
    top: int
    bottom: int
    height: int
    left: int
    right: int
    width: int

    @property
    def share(self) -> float:
        """The part of the grid that one window covers."""
        return self.height * self.width / (self.layout.height * self.layout.width)

    def cut(self, grid: Tensor) -> Tensor:
        """Windows ``(B, n, height * width, C)`` of the whole grid's tokens ``(B, hw, C)``."""
        grid = grid.unflatten(1, (self.layout.height, self.layout.width))
        part = grid[:, self.top : self.bottom, self.left : self.right]
        part = part.unflatten(2, (-1, self.width)).unflatten(1, (-1, self.height))
        return part.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def join(self, windows: Tensor) -> Tensor:
        """The region's part of the map, ``(B, rows, columns, C)``, of windows as :meth:`cut`'s."""
        rows = (self.bottom - self.top) // self.height
        part = windows.unflatten(2, (self.height, self.width)).unflatten(1, (rows, -1))
        return part.transpose(2, 3).flatten(3, 4).flatten(1, 2)


# Upstream's attention: tokens (B, N, C) of whole images, or of a region's windows, (B * n, N, C).
Attention = Callable[[Tensor, Region | None], Tensor]


def plan(
    window: int | None, global_blocks: int | Sequence[int] | None, depth: int
) -> tuple[list[int | None], str]:
    """Side of each block's windows in tokens, None where it is global, and the setting's record.

    Args:
        window: Side of the windows in tokens, or None for no windows at all.
        global_blocks: How many blocks attend to the whole grid, spread evenly, the last block one
            of them, as in ViTDet; or their indices, negative from the end. None is four; 0 or an
            empty list, none.
        depth: Number of the model's blocks.

    Raises:
        InvalidSettingError: A side below one, more global blocks than there are, an index of no
            block, or global blocks without windows.
    """
    if window is None:
        if global_blocks is not None:
            raise InvalidSettingError(
                f'global_blocks={global_blocks!r} without window: every block is global. Give the '
                'side of the windows in tokens, such as window=14, or leave global_blocks out.'
            )
        return [None] * depth, ''
    if type(window) is not int or window < 1:
        raise InvalidSettingError(
            f'window is the side of an attention window in tokens, a whole number >= 1; given: '
            f'{window!r}. ViTDet takes 14; None is no windows.'
        )
    if global_blocks is None:
        global_blocks = GLOBAL_BLOCKS
    chosen: tuple[int, ...] = ()
    if isinstance(global_blocks, Sequence):
        if global_blocks:
            chosen = resolve_indices(global_blocks, depth, 'global_blocks')
    elif type(global_blocks) is int and 0 <= global_blocks <= depth:
        count = global_blocks
        chosen = tuple(depth * (k + 1) // count - 1 for k in range(count))
    else:
        raise InvalidSettingError(
            f'global_blocks={global_blocks!r}, but this trunk has {depth} blocks: give how many of '
            f'them attend to the whole grid, 0 to {depth} ({GLOBAL_BLOCKS} by default), or a list '
            'of their indices.'
        )
    sides = [None if index in chosen else window for index in range(depth)]
    return sides, f'window={window}&global_blocks={",".join(map(str, chosen)) or "none"}'


def attend(attention: Attention, tokens: Tensor, layout: TokenLayout, side: int | None) -> Tensor:
    """What ``attention`` makes of tokens ``(B, P + hw, C)``, inside windows; the same shape.

    Args:
        attention: Called once for each region of equal windows, at most four times, with their
            tokens ``(B * n, P + k, C)`` and the region; or once with all tokens and None.
        tokens: Prefix tokens, then the grid's.
        layout: What they stand for.
        side: Side of the windows in tokens; None for attention to the whole grid.
    """
    if side is None or max(layout.height, layout.width) <= side:
        return attention(tokens, None)
    prefix, grid = layout.split(tokens)
    prefixes, rows = [], []
    for top, bottom, height in _parts(layout.height, side):
        row = []
        for left, right, width in _parts(layout.width, side):
            region = Region(layout, top, bottom, height, left, right, width)
            windows = region.cut(grid)
            everywhere = prefix.unsqueeze(1).expand(-1, windows.shape[1], -1, -1)
            # Images first, their windows second: (B * n, P + k, C).
            folded = torch.cat((everywhere, windows), dim=2).flatten(0, 1)
            out = attention(folded, region).unflatten(0, windows.shape[:2])
            prefixes.append((region.share * out[:, :, : layout.prefix]).sum(dim=1))
            row.append(region.join(out[:, :, layout.prefix :]))
        rows.append(torch.cat(row, dim=2))
    grid = torch.cat(rows, dim=1).flatten(1, 2)
    return torch.cat((torch.stack(prefixes).sum(dim=0), grid), dim=1)


def _parts(length: int, side: int) -> Iterator[tuple[int, int, int]]:
    """Begin, end and step of the whole windows along an axis, then of the shorter one behind."""
    whole = length - length % side
    if whole:
        yield 0, whole, side
    if whole < length:
        yield whole, length, length - whole
