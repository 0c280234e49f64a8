"""How learned position embeddings meet another grid of tokens, and what weights were resampled."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from mmsigma.errors import UnknownNameError, unknown

# Whether the bicubic resampling filters when it shrinks. timm does; so do the releases of DINOv2
# with registers (arXiv:2309.16588). The release of DINOv2 (arXiv:2304.07193) does not.
ANTIALIAS = {'bicubic-antialias': True, 'bicubic': False}
TIMM = 'bicubic-antialias'

_PATCH = 'patch_embed.proj.weight'
# Keys by which timm's filters know the position embedding.
_POSITIONS = ('pos_embed', 'visual.positional_embedding', 'module.visual.positional_embedding')


def check(method: str) -> None:
    """Refuse a method of resampling that does not exist.

    Raises:
        UnknownNameError: There is no such method.
    """
    if method not in ANTIALIAS:
        raise UnknownNameError(unknown('pos_resample', method, ANTIALIAS))


def embed(model: Any, patches: Tensor, method: str) -> Tensor:
    """Prefix tokens and position embeddings, as a plain vision transformer of timm adds them.

    Args:
        model: A ``timm.models.VisionTransformer`` with ``dynamic_img_size``.
        patches: ``(B, h, w, C)``.
        method: A name of :data:`ANTIALIAS`.

    Returns:
        Tokens ``(B, P + h * w, C)``.
    """
    if method == TIMM or model.pos_embed is None:
        return model._pos_embed(patches)
    grid = patches.shape[1:3]
    prefix = [
        t.expand(len(patches), -1, -1) for t in (model.cls_token, model.reg_token) if t is not None
    ]
    position = resample_abs_pos_embed(
        model.pos_embed,
        new_size=list(grid),
        old_size=list(model.patch_embed.grid_size),
        num_prefix_tokens=0 if model.no_embed_class else model.num_prefix_tokens,
        antialias=ANTIALIAS[method],
    )
    tokens = patches.flatten(1, 2)
    if model.no_embed_class:
        tokens = torch.cat([*prefix, tokens + position], dim=1)
    else:
        tokens = torch.cat([*prefix, tokens], dim=1) + position
    return model.pos_drop(tokens)


def is_resampled(before: Mapping[str, Tensor], after: Mapping[str, Tensor], model: Any) -> bool:
    """Whether the position embedding was brought to another grid."""
    return _grids(before, after, model) is not None


def changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], model: Any, method: str
) -> tuple[list[str], bool]:
    """What timm's filter resampled, one phrase each, and whether a patch kernel is among it.

    Args:
        before: Tensors that timm's filter was given.
        after: Tensors that it returned.
        model: The timm model.
        method: How position embeddings were resampled.
    """
    found = []
    grids = _grids(before, after, model)
    if grids is not None:
        filtered = ', antialias' if ANTIALIAS[method] else ''
        found.append(f'pos_embed resampled {grids[0]} -> {grids[1]} (bicubic{filtered})')
    tables = [
        key
        for key, value in after.items()
        if key.endswith('relative_position_bias_table')
        and key in before
        and before[key].shape != value.shape
    ]
    if tables:
        shapes = [tuple(state[tables[0]].shape) for state in (before, after)]
        found.append(
            f'{len(tables)} relative position tables resampled, the first {shapes[0]} -> '
            f'{shapes[1]}'
        )
    kernels = [_kernel(state) for state in (before, after)]
    if None not in kernels and kernels[0] != kernels[1]:
        old, new = map(_x, kernels)
        found.append(
            f'PATCH KERNEL resampled {old} -> {new}: the model sees other patches than it was '
            'trained on'
        )
        return found, True
    return found, False


def _grids(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], model: Any
) -> tuple[str, str] | None:
    old = next((before[key] for key in _POSITIONS if key in before), None)
    new = after.get('pos_embed')
    if old is None or new is None or new.ndim != 3 or torch.equal(old, new):
        return None
    new_grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    count = old.shape[-2]
    # A square grid, with or without a class token's position; timm assumes the same.
    side = next((math.isqrt(n) for n in (count, count - 1) if math.isqrt(n) ** 2 == n), None)
    if new_grid is None or (side is not None and (side, side) == tuple(new_grid)):
        return None
    return (f'{side}x{side}' if side else f'{count} tokens'), _x(new_grid)


def _kernel(state: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    names = (_PATCH, 'visual.conv1.weight', 'module.visual.conv1.weight', f'image_encoder.{_PATCH}')
    weight = next((state[name] for name in names if name in state), None)
    return None if weight is None or weight.ndim != 4 else tuple(weight.shape[-2:])


def _x(size: Any) -> str:
    return 'x'.join(map(str, size))
