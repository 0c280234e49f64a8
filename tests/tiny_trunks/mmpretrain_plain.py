"""mmpretrain's VisionTransformer."""

from typing import Any

from torch import Tensor, nn

from tests.tiny_trunks.base import Tiny

_ARCH = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}


def _upstream(args: dict[str, Any], norm: bool) -> nn.Module:
    from mmpretrain.models import VisionTransformer

    # mmpretrain's norm goes with the last block only.
    options = {} if norm else {'final_norm': False, 'out_indices': [0, 1]}
    return VisionTransformer(_ARCH, out_type='featmap', **options, **args)


def _maps(model: nn.Module, images: Tensor, norm: bool) -> list[Tensor]:
    return list(model(images))


def _vit(**args: Any) -> Tiny:
    args = {'img_size': 56, 'patch_size': 14, **args}
    return Tiny(
        config={'type': 'MMPretrainViT', 'arch': _ARCH, 'model_args': args},
        upstream=lambda norm: _upstream(args, norm),
        maps=_maps,
        patch=14,
        prefix=1,
        class_token=True,
        dropout='drop_rate',
    )


TRUNKS = {
    'mmpretrain': _vit(),
    'mmpretrain-layerscale': _vit(layer_scale_init_value=0.1),
}
