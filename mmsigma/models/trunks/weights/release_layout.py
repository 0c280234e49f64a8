"""Files of timm's own names, and of releases whose names timm's ``checkpoint_filter_fn`` converts.

What is listed here is how they are told apart, and what they hold beside the encoder. The first
layout that fits counts: a family's mark may be found in a later one's files as well.
"""

import re
from typing import Any

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.weights.layouts import Layout, State

# Buffers that a model computes, and what only pretraining needs.
_COMMON = (
    r'.*\.relative_(position_index|coords_table)$',
    r'.*\.attn_mask$',
    r'.*rope(_embed)?\.(periods|freqs_cos|freqs_sin)$',
    r'.*\.bias_mask$',
    r'decoder_',
    r'lm_head\.',
    r'local_cls_norm\.',
    r'projectors\.',
    r'multi_scale_fusion_heads\.',
    r'(dino|ibot)_head\.',
)
_TEXT = (
    r'text(_encoder|_model)?\.',
    r'transformer\.',
    r'token_embedding\.',
    r'positional_embedding$',
    r'ln_final\.',
    r'text_projection(\.|$)',
    r'logit_(scale|bias)$',
    r'(input_resolution|context_length|vocab_size)$',
    r'visual\.head\.',
)
_BESIDE = (*_COMMON, *_TEXT)
_SAM = (
    r'prompt_encoder\.',
    r'mask_decoder\.',
    r'pixel_(mean|std)$',
)
_SAM2 = (
    r'image_encoder\.neck\.',
    r'memory_(attention|encoder)\.',
    r'sam_(mask_decoder|prompt_encoder)\.',
    r'maskmem_tpos_enc$',
    r'mask_downsample\.',
    r'no_mem_(embed|pos_enc)$',
    r'no_obj_(ptr|embed_spatial)$',
    r'obj_ptr_(tpos_)?proj\.',
)
_VIT, _EVA = 'VisionTransformer', 'Eva'


def _dinov3(state: State, model: Any, left_out: list[str]) -> State:
    """Drop the biases of query, key and value where timm's model has none and they are zero.

    Raises:
        WeightsError: They are not zero.
    """
    own = model.state_dict()
    kept = {}
    for key, value in state.items():
        at = key.removesuffix('qkv.bias')
        if at == key or f'{at}q_bias' in own:
            kept[key] = value
            continue
        query, _, values = value.chunk(3)  # the release masks those of the keys
        if query.any() or values.any():
            raise WeightsError(
                f'{key} is not zero, and this model has no such bias; the name with `_qkvb` has'
            )
        left_out.append(key)
    return kept


def _tower(state: State, model: Any, left_out: list[str]) -> State:
    """Let nothing unknown stand beside the tower, which timm's filter would drop in silence.

    Raises:
        WeightsError: Something does.
    """
    unknown = [key for key in state if not key.startswith('visual.')]
    if unknown:
        raise WeightsError(f'{len(unknown)} unknown keys ({", ".join(unknown[:4])}, ...)')
    return state


def _deit3(state: State, model: Any, left_out: list[str]) -> State:
    if _EVA in {base.__name__ for base in type(model).__mro__}:
        return state
    return {re.sub(r'\.gamma_([12])$', r'.ls\1.gamma', key): v for key, v in state.items()}


_PATCH = r'patch_embed\.proj\.weight'
_WINDOWS = r'layers\.0\.blocks\.0\.attn\.'
_TABLE = 'relative_position_bias_table'

LAYOUTS = (
    Layout(
        'release',
        'SAM 2',
        ('HieraDet',),
        (r'image_encoder\.trunk\.patch_embed\.proj\.weight',),
        _SAM2,
        ((r'^image_encoder\.trunk\.', ''),),
    ),
    Layout(
        'release',
        'SAM',
        ('VisionTransformerSAM',),
        (rf'image_encoder\.{_PATCH}',),
        _SAM,
        ((r'^image_encoder\.', ''), (r'\.mlp\.lin', '.mlp.fc')),
    ),
    Layout(
        'release',
        'open_clip',
        (_VIT, _EVA),
        (rf'visual\.trunk\.{_PATCH}',),
        _TEXT,
        ((r'^visual\.trunk\.', ''),),
    ),
    Layout('release', 'CLIP', (_VIT, _EVA), (r'visual\.class_embedding',), _TEXT, (), _tower),
    Layout('release', 'DINOv3', (_EVA,), (r'storage_tokens', _PATCH), _COMMON, (), _dinov3),
    Layout('mmpretrain', 'ViT', (), (r'layers\.0\.ln1\.weight',)),
    Layout('mmpretrain', 'Swin', (), (r'stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight',)),
    Layout('timm', 'SAM', ('VisionTransformerSAM',), (_PATCH, r'blocks\.0\.attn\.rel_pos_h')),
    Layout('timm', 'SAM 2', ('HieraDet',), (_PATCH, r'pos_embed_window')),
    Layout(
        'timm', 'Hiera', ('Hiera',), (_PATCH, r'(blocks\.\d+\.proj\.weight|pos_embed_win)'), _COMMON
    ),
    Layout(
        'timm',
        'Swin V2',
        ('SwinTransformerV2',),
        (_PATCH, rf'{_WINDOWS}logit_scale'),
        _COMMON,
    ),
    Layout('timm', 'Swin', ('SwinTransformer',), (_PATCH, rf'{_WINDOWS}{_TABLE}'), _COMMON),
    Layout(
        'timm', 'BEiT', ('Beit',), (_PATCH, rf'(blocks\.0\.attn|rel_pos_bias)\.{_TABLE}'), _COMMON
    ),
    Layout('timm', 'DINOv3', (_EVA,), (_PATCH, r'reg_token', r'blocks\.0\.gamma_1'), _BESIDE),
    Layout('timm', 'EVA', (_EVA,), (_PATCH, r'blocks\.0\.attn\.q_(bias|proj\.weight)'), _BESIDE),
    Layout(
        'timm',
        'EVA or DeiT III',
        (_VIT, _EVA),
        (_PATCH, r'blocks\.0\.gamma_1'),
        _BESIDE,
        (),
        _deit3,
    ),
    Layout('timm', 'DINOv2', (_VIT,), (_PATCH, r'blocks\.0\.ls1\.gamma'), _BESIDE),
    Layout('timm', 'ViT', (_VIT, _EVA), (_PATCH, r'blocks\.0\.attn\.qkv\.weight'), _BESIDE),
)
# Of a file that none of these fits.
UNKNOWN = Layout('unknown', 'names', (), (), _COMMON)
