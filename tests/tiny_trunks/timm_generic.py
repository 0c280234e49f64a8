"""Models of timm that no family serves: convolutions, pooling attention, parallel blocks."""

from typing import Any

from tests.tiny_trunks.base import timm_tiny


def _generic(model_name: str, patch: int, **facts: Any):
    args = facts.pop('args')
    facts = {'norms': (False,), 'positions': ('after_block',), 'dropout': None, **facts}
    return timm_tiny('TimmGeneric', model_name, args, patch, **facts)


_STAGES = {'widths': (8, 16, 32, 64), 'strides': (4, 8, 16, 32), 'multiple': 32}

TRUNKS = {
    'convnext': _generic(  # maps (B, C, h, w)
        'convnext_atto',
        4,
        args={'depths': (1, 1, 2, 1), 'dims': (8, 16, 32, 64)},
        depth=5,
        **_STAGES,
    ),
    'mambaout': _generic(  # maps (B, h, w, C)
        'mambaout_femto',
        4,
        args={'depths': (1, 1, 2, 1), 'dims': (8, 16, 32, 64)},
        depth=5,
        **_STAGES,
    ),
    'parallel': _generic(  # tokens (B, N, C), attention and MLP side by side
        'vit_base_patch16_xp_224',
        16,
        args={'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'img_size': 64},
        prefix=1,
        options={'dynamic_img_size': True},
    ),
}
