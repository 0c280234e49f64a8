"""mmpretrain's plain transformers: ViT, BEiT, EVA-02, SAM."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny_trunks.base import Tiny

_ARCH = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}
# One block with windows, one without.
_SAM_ARCH = {**_ARCH, 'global_attn_indexes': [1]}


def weights_only(model: Any) -> Any:
    """A model whose state dict leaves out its buffers, which all follow from its grid."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer, persistent=False)
    return model


def _upstream(name: str, arch: dict[str, Any], args: dict[str, Any], norm: bool) -> nn.Module:
    import mmpretrain.models

    options: dict[str, Any] = {'out_type': 'featmap', 'final_norm': norm}
    if not norm:  # mmpretrain's norm goes with the last block only
        options['out_indices'] = [0, 1]
    if name == 'ViTSAM':
        options = {'out_indices': [0, 1], 'out_channels': 0}
    model = getattr(mmpretrain.models, name)(arch, **options, **args)
    return weights_only(model)


def _maps(model: nn.Module, images: Tensor, norm: bool) -> list[Tensor]:
    return list(model(images))


def beit_at(model: Any, size: tuple[int, int], **args: Any) -> Any:
    """A BEiT built for images of this size, with the weights of ``model``, their tables resized."""
    from mmpretrain.models import BEiTViT

    from mmsigma.models.trunks.mmpretrain_models import resize_table

    other = weights_only(
        BEiTViT(
            model.arch_settings,
            img_size=size,
            out_type='featmap',
            final_norm=model.final_norm,
            out_indices=list(model.out_indices),
            **args,
        )
    )
    own = other.state_dict()
    for key, value in model.state_dict().items():
        if key.endswith('bias_table'):
            old, new = model.patch_resolution, other.patch_resolution
            own[key] = torch.cat((resize_table(value[:-3], old, new), value[-3:]))
        elif key != 'pos_embed':
            own[key] = value
    if model.pos_embed is not None:
        own['pos_embed'] = model.resize_pos_embed(
            model.pos_embed, model.patch_resolution, other.patch_resolution, 'bicubic', 1
        )
    other.load_state_dict(own)
    other.eval()
    return other


def _beit_maps(args: dict[str, Any], model: Any, images: Tensor, norm: bool) -> list[Tensor]:
    size = tuple(images.shape[-2:])
    if size != model.img_size:
        model = beit_at(model, size, **{k: v for k, v in args.items() if k != 'img_size'})
    return list(model(images))


def _plain(family: str, name: str, arch: dict[str, Any], **facts: Any) -> Tiny:
    patch = facts.setdefault('patch', 14)
    args = {'img_size': 4 * patch, 'patch_size': patch, **facts.pop('args', {})}
    config = {'type': family, 'arch': arch, 'model_args': args, **facts.pop('config', {})}
    facts = {'prefix': 1, 'class_token': True, 'dropout': 'drop_rate', 'maps': _maps, **facts}
    return Tiny(
        config=config,
        upstream=partial(_upstream, name, arch, args),
        **facts,
    )


_vit = partial(_plain, 'MMPretrainViT', 'VisionTransformer', _ARCH)


def _beit(**args: Any) -> Tiny:
    full = {'img_size': 64, 'patch_size': 16, **args}
    # Released models have no final norm, so that is not the default.
    config = {'final_norm': True}
    maps = partial(_beit_maps, full)
    return _plain('MMPretrainBEiT', 'BEiTViT', _ARCH, patch=16, args=args, maps=maps, config=config)


TRUNKS = {
    'mmpretrain': _vit(),
    'mmpretrain-layerscale': _vit(args={'layer_scale_init_value': 0.1}),
    'mmpretrain-beit': _beit(),
    'mmpretrain-beit-shared': _beit(
        use_rel_pos_bias=False, use_shared_rel_pos_bias=True, layer_scale_init_value=0.0
    ),
    'mmpretrain-eva': _beit(
        use_rel_pos_bias=False,
        use_abs_pos_emb=True,
        layer_scale_init_value=0.0,
        layer_cfgs={'bias': True},
    ),
    'mmpretrain-eva02': _plain('MMPretrainEVA02', 'ViTEVA02', _ARCH, args={'sub_ln': True}),
    'mmpretrain-sam': _plain(
        'MMPretrainSAM',
        'ViTSAM',
        _SAM_ARCH,
        patch=16,
        args={'window_size': 3},
        prefix=0,
        class_token=False,
        norms=(False,),
    ),
}
