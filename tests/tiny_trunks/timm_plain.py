"""timm's plain vision transformers."""

from tests.tiny_trunks.base import timm_tiny

_ARGS = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
_OPTIONS = {'global_pool': '', 'dynamic_img_size': True}


def _vit(model_name: str, patch: int, grid: int = 4, **facts):
    args = {**_ARGS, 'img_size': grid * patch, **facts.pop('args', {})}
    return timm_tiny('TimmViT', model_name, args, patch, options=_OPTIONS, **facts)


TRUNKS = {
    'dinov2': _vit('vit_small_patch14_dinov2', 14, prefix=1, class_token=True),
    'registers': _vit('vit_small_patch14_reg4_dinov2', 14, prefix=5, class_token=True),
    'siglip': _vit('vit_base_patch16_siglip_512', 16),  # no prefix tokens at all
    'aimv2': _vit('aimv2_large_patch14_224', 14),  # RMS norms, SwiGLU, no class token
    'clip': _vit('vit_base_patch16_clip_224', 16, prefix=1, class_token=True),  # a norm before
    'deit3': _vit('deit3_small_patch16_224', 16, prefix=1, class_token=True),
    'post-norm': _vit('vit_base_patch16_rpn_224', 16, args={'class_token': False}),
}
