"""timm's plain vision transformers."""

from tests.tiny_trunks.base import timm_tiny

_ARGS = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
_OPTIONS = {'dynamic_img_size': True}


def _vit(model_name: str, patch: int, grid: int = 4, **facts):
    args = {**_ARGS, 'img_size': grid * patch, **facts.pop('args', {})}
    return timm_tiny('TimmViT', model_name, args, patch, options=_OPTIONS, **facts)


def _eva(model_name: str, patch: int = 16, prefix: int = 1, **args):
    args = {**_ARGS, 'img_size': 4 * patch, **args}
    facts = {'prefix': prefix, 'class_token': True, 'options': _OPTIONS}
    return timm_tiny('TimmEVA', model_name, args, patch, **facts)


def _beit(model_name: str, **args):
    args = {**_ARGS, 'img_size': 64, **args}

    def maps(model, images, norm):
        model.set_input_size(img_size=images.shape[-2:])
        return model.forward_intermediates(images, norm=norm, intermediates_only=True)

    facts = {'prefix': 1, 'class_token': True, 'maps': maps}
    return timm_tiny('TimmBEiT', model_name, args, 16, **facts)


TRUNKS = {
    'dinov2': _vit('vit_small_patch14_dinov2', 14, prefix=1, class_token=True),
    'registers': _vit('vit_small_patch14_reg4_dinov2', 14, prefix=5, class_token=True),
    'siglip': _vit('vit_base_patch16_siglip_512', 16),  # no prefix tokens at all
    'aimv2': _vit('aimv2_large_patch14_224', 14),  # RMS norms, SwiGLU, no class token
    'clip': _vit('vit_base_patch16_clip_224', 16, prefix=1, class_token=True),  # a norm before
    'deit3': _vit('deit3_small_patch16_224', 16, prefix=1, class_token=True),
    'post-norm': _vit('vit_base_patch16_rpn_224', 16, args={'class_token': False}),
    'dinov3': _eva('vit_small_patch16_dinov3', prefix=5),
    'eva02': _eva('eva02_base_patch14_224', 14, use_fc_norm=False),
    'pe': _eva('vit_pe_core_base_patch16_224'),
    'eva-post-norm': _eva('eva02_enormous_patch14_clip_224', 14),
    'eva-mixed': _eva('vit_small_patch16_rope_mixed_ape_224'),  # rotary frequencies per block
    'beit': _beit('beit_base_patch16_224'),
    'beit-norm': _beit('beitv2_base_patch16_224', use_fc_norm=False, use_abs_pos_emb=True),
}
