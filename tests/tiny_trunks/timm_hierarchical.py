"""timm's trunks with windows and stages: SAM, SAM 2, Hiera, Swin."""

from collections.abc import Sequence
from typing import Any

import timm
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from tests.tiny_trunks.base import Tiny, timm_tiny


def hiera_maps(model: Any, images: Tensor, norm: bool, **options: Any) -> Sequence[Tensor]:
    """What a Hiera returns that was built for the size of these images, with the same weights."""
    name, args = model.default_cfg['architecture'], {**model.tiny_args}
    twin = timm.create_model(name, **{**args, 'img_size': tuple(images.shape[-2:])}).eval()
    twin.head = nn.Identity()
    state = dict(model.state_dict())
    if model.pos_embed_win is None:
        state['pos_embed'] = resample_abs_pos_embed(
            state['pos_embed'], twin.tokens_spatial_shape, model.tokens_spatial_shape, 0
        )
    twin.load_state_dict(state)
    return twin.forward_intermediates(images, norm=norm, intermediates_only=True, **options)


def _sam(**args: Any) -> Tiny:
    args = {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'img_size': 64, 'window_size': 3, **args}
    return timm_tiny(
        'TimmSAM',
        'samvit_base_patch16',
        {**args, 'global_attn_indexes': (1,)},
        16,
        behind=('neck', 'head'),
        norms=(False,),
    )


def _hieradet(**args: Any) -> Tiny:
    return timm_tiny(
        'TimmHieraDet',
        'sam2_hiera_tiny',
        {'embed_dim': 16, 'num_heads': 2, 'q_pool': 2, **args},
        4,
        behind=('head',),
        norms=(False,),
        widths=(16, 32, 64),
        strides=(4, 8, 16),
        multiple=16,
        depth=4,
        dropout='drop_path_rate',
    )


def _hiera(model_name: str = 'hiera_tiny_224', **args: Any) -> Tiny:
    args = {
        'embed_dim': 16,
        'num_heads': 2,
        'stages': (1, 1, 2),
        'q_pool': 2,
        'mask_unit_size': (4, 4),
        'mask_unit_attn': (True, True, False),
        'img_size': (48, 32),
        **args,
    }

    def upstream(norm: bool) -> nn.Module:
        model = timm.create_model(model_name, **args)
        model.head = nn.Identity()
        model.tiny_args = args  # so that a model of another image size can be built
        return model

    return Tiny(
        config={'type': 'TimmHiera', 'model_name': model_name, 'model_args': args},
        upstream=upstream,
        maps=hiera_maps,
        patch=4,
        norms=(False,),
        widths=(16, 32, 64),
        strides=(4, 8, 16),
        multiple=16,
        depth=4,
        dropout='drop_path_rate',
    )


def _swin(model_name: str, window: int) -> Tiny:
    args = {'embed_dim': 16, 'depths': (2, 2), 'num_heads': (2, 4), 'img_size': 48}
    return timm_tiny(
        'TimmSwin',
        model_name,
        {**args, 'window_size': window, 'drop_path_rate': 0.0},
        4,
        options={'strict_img_size': False},
        behind=('head',),
        widths=(16, 32),
        strides=(4, 8),
        depth=4,
    )


TRUNKS = {
    'sam': _sam(),
    # One block pools inside windows that its grid does not fill, the last sees the whole map.
    'hieradet': _hieradet(stages=(1, 1, 2), window_spec=(4, 6, 3), global_att_blocks=(3,)),
    'hiera': _hiera(),
    'hiera-abswin': _hiera(
        'hiera_small_abswin_256', global_pos_size=(4, 4), init_values=0.1, img_size=(32, 32)
    ),
    'swin': _swin('swin_tiny_patch4_window7_224', 4),
    'swinv2': _swin('swinv2_tiny_window8_256', 2),
}
