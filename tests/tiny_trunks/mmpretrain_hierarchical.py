"""mmpretrain's Swin and Swin V2."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from tests.tiny_trunks.base import Tiny
from tests.tiny_trunks.mmpretrain_plain import weights_only

_V1 = {'embed_dims': 16, 'depths': [2, 2], 'num_heads': [2, 4]}
_EXTRA = {'extra_norm_every_n_blocks': 0}


def _upstream(name: str, arch: dict[str, Any], args: dict[str, Any], norm: bool) -> nn.Module:
    import mmpretrain.models

    model = getattr(mmpretrain.models, name)(
        arch, out_indices=[len(arch['depths']) - 1], pad_small_map=True, **args
    )
    # Frozen, as the trunk: PyTorch multiplies what merging transposes by another kernel when the
    # weight requires a gradient, and the last bit can differ.
    return weights_only(model).requires_grad_(False)


def stage_maps(model: Any, images: Tensor, norm: bool) -> list[Tensor]:
    """Each stage's output before merging, by hooks; the last as the model returns it, if normed."""
    found: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: tuple[Tensor, tuple[int, int]]) -> None:
        tokens, grid = output
        found.append(tokens.unflatten(1, grid).permute(0, 3, 1, 2))

    handles = [stage.register_forward_hook(keep) for stage in model.stages]
    normed = model(images)
    for handle in handles:
        handle.remove()
    return [*found[:-1], normed[-1]] if norm else found


def _swin(family: str, name: str, arch: dict[str, Any], **args: Any) -> Tiny:
    stages = len(arch['depths'])
    args = {'img_size': 16, 'window_size': 3, **args}
    return Tiny(
        config={'type': family, 'arch': arch, 'model_args': args},
        upstream=partial(_upstream, name, arch, args),
        maps=stage_maps,
        patch=4,
        widths=[arch['embed_dims'] * 2**i for i in range(stages)],
        strides=[4 * 2**i for i in range(stages)],
        depth=sum(arch['depths']),
        dropout='drop_rate',
    )


_v1 = partial(_swin, 'MMPretrainSwin', 'SwinTransformer')
_v2 = partial(_swin, 'MMPretrainSwinV2', 'SwinTransformerV2')

TRUNKS = {
    'mmpretrain-swin': _v1(_V1),
    'mmpretrain-swin-4': _v1(
        {'embed_dims': 8, 'depths': [1, 1, 1, 1], 'num_heads': [1, 2, 2, 2]}, use_abs_pos_embed=True
    ),
    'mmpretrain-swinv2': _v2({**_V1, **_EXTRA}),
    'mmpretrain-swinv2-extra': _v2({**_V1, 'extra_norm_every_n_blocks': 2}),
}
