"""Checkpoints of Hugging Face transformers, with or without a task's head around the encoder."""

import re
from typing import Any

import torch
from torch import Tensor

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.weights.layouts import Layout, State

_HEADS = (
    r'(cls_|distillation_)?classifier\.',
    r'lm_head\.',
    r'decoder\.',
    r'(decode|auxiliary)_head\.',
    r'pooler\.dense\.',
    r'(embeddings\.)?mask_token$',
)
_TEXT = (r'text_model\.', r'(text|visual)_projection\.', r'logit_(scale|bias)$')
_SAM = (
    r'(vision_encoder\.)?neck\.',
    r'(prompt|memory)_encoder\.',
    r'mask_decoder\.',
    r'memory_attention\.',
    r'shared_image_embedding\.',
    r'no_memory_',
    r'memory_temporal_positional_encoding$',
    r'no_object_pointer$',
    r'occlusion_spatial_embedding_parameter$',
    r'mask_downsample\.',
    r'object_pointer_proj\.',
    r'temporal_positional_encoding_projection_layer\.',
)

_PATCHES = (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.')
_EMBEDDINGS = (
    _PATCHES,
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
)
_FINAL_NORM = (r'^layernorm\.', 'norm.')
# The names of BERT, as ViT, BEiT and Swin have them.
_BERT = (
    (r'\.attention\.(attention|self)\.(query|key|value)\.', r'.attn.\2.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
)
_VIT = (*_EMBEDDINGS, (r'^encoder\.layer\.', 'blocks.'), *_BERT, _FINAL_NORM)
# The names of CLIP and SigLIP.
_CLIP = (
    (r'^embeddings\.patch_embedding\.', 'patch_embed.proj.'),
    (r'^embeddings\.class_embedding$', 'cls_token'),
    (r'^embeddings\.position_embedding\.weight$', 'pos_embed'),
    (r'^pre_layrnorm\.', 'norm_pre.'),  # spelt so
    (r'^encoder\.layers\.', 'blocks.'),
    (r'\.self_attn\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.self_attn\.out_proj\.', '.attn.proj.'),
    (r'\.layer_norm([12])\.', r'.norm\1.'),
    (r'^post_layernorm\.', 'norm.'),
)
_SWIN = (
    _PATCHES,
    (r'^embeddings\.norm\.', 'patch_embed.norm.'),
    (r'^encoder\.layers\.', 'layers.'),
    *_BERT,
    (r'\.attention\.self\.continuous_position_bias_mlp\.', '.attn.cpb_mlp.'),
    (r'\.attention\.self\.', '.attn.'),
    _FINAL_NORM,
)
_SWIN_LEFT_OUT = (
    *_HEADS,
    r'.*\.relative_(position_index|coords_table)$',
    r'hidden_states_norms\.',
)


def _fuse(state: State, model: Any, left_out: list[str]) -> State:
    """Join query, key and value as timm has them: ``(3C, C)`` weights, ``(3C,)`` biases.

    Raises:
        WeightsError: The file has biases of queries and values, and the model has none.
    """
    fused: State = {}
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    pattern = re.compile(r'(.*\.attn\.)(query|key|value|q|k|v)\.(weight|bias)')
    for key, value in state.items():
        match = pattern.fullmatch(key)
        if match:
            parts.setdefault((match[1], match[3]), {})[match[2][0]] = value
        else:
            fused[key] = value
    own = model.state_dict()
    for (at, kind), part in parts.items():
        if part.keys() == {'q', 'k', 'v'}:
            fused[f'{at}qkv.{kind}'] = torch.cat([part['q'], part['k'], part['v']])
        elif part.keys() != {'q', 'v'} or kind != 'bias':  # incomplete: reported as unknown keys
            fused |= {f'{at}{name}.{kind}': value for name, value in part.items()}
        elif f'{at}q_bias' in own:
            fused |= {f'{at}q_bias': part['q'], f'{at}v_bias': part['v']}
        elif f'{at}qkv.bias' in own:
            fused[f'{at}qkv.bias'] = torch.cat([part['q'], torch.zeros_like(part['q']), part['v']])
        elif any(value.any() for value in part.values()):
            raise WeightsError(
                f'{at}q and {at}v have biases that are not zero, and this model has none; the '
                'name with `_qkvb` has'
            )
        else:
            left_out += [f'{at}{name}.bias' for name in part]
    return fused


def _registers(state: State, model: Any, left_out: list[str]) -> State:
    # timm's positions cover the patches only; the class token's is added to the token itself.
    state = dict(state)
    position = state.pop('pos_embed')
    state['cls_token'] = state['cls_token'] + position[:, :1]
    state['pos_embed'] = position[:, 1:]
    return _fuse(state, model, left_out)


def _dinov3(state: State, model: Any, left_out: list[str]) -> State:
    gated = any('.mlp.gate_proj.' in key for key in state)
    names = {'gate_proj': 'fc1_g', 'up_proj': 'fc1_x' if gated else 'fc1', 'down_proj': 'fc2'}
    pattern = re.compile(r'(?<=\.mlp\.)(gate|up|down)_proj(?=\.)')
    state = {pattern.sub(lambda match: names[match[0]], key): v for key, v in state.items()}
    return _fuse(state, model, left_out)


def _clip(state: State, model: Any, left_out: list[str]) -> State:
    if state['patch_embed.proj.weight'].ndim != 4:
        raise WeightsError(
            'they are of a NaFlex model, which takes patches instead of images; take the '
            "fixed-resolution release of the same model, such as 'siglip2-base-patch16-256'"
        )
    state = {**state, 'pos_embed': state['pos_embed'][None]}
    if 'cls_token' in state:
        state['cls_token'] = state['cls_token'].reshape(1, 1, -1)
    return _fuse(state, model, left_out)


def _hiera(state: State, model: Any, left_out: list[str]) -> State:
    # timm counts blocks through all stages.
    pattern = re.compile(r'encoder\.stages\.(\d+)\.layers\.(\d+)\.')
    matches = [match for key in state if (match := pattern.match(key))]
    pairs = sorted({(int(match[1]), int(match[2])) for match in matches})
    index = {pair: number for number, pair in enumerate(pairs)}

    def name(match: re.Match[str]) -> str:
        return f'blocks.{index[int(match[1]), int(match[2])]}.'

    return {pattern.sub(name, key): value for key, value in state.items()}


_PATCH_KEY = r'embeddings\.patch_embeddings\.projection\.weight'
_CONV_KEY = r'patch_embed\.projection\.weight'
_LAYER = r'encoder\.layer\.0\.'
_WINDOWS = r'encoder\.layers\.0\.blocks\.0\.attention\.self\.'
_LAYER_SCALE = r'\.layer_scale([12])\.lambda1$'
_REGISTERS = (r'^embeddings\.register_tokens$', 'reg_token')
_DINOV2_KEYS = (_PATCH_KEY, rf'{_LAYER}layer_scale1\.lambda1')
_DINOV2 = (
    *_VIT,
    _REGISTERS,
    (_LAYER_SCALE, r'.ls\1.gamma'),
    (r'\.mlp\.weights_in\.', '.mlp.fc1.'),
    (r'\.mlp\.weights_out\.', '.mlp.fc2.'),
)
_DINOV3 = (
    (r'^embeddings\.patch_embeddings\.', 'patch_embed.proj.'),
    (r'^embeddings\.cls_token$', 'cls_token'),
    _REGISTERS,
    (r'^(model\.)?layer\.', 'blocks.'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attention\.o_proj\.', '.attn.proj.'),
    (_LAYER_SCALE, r'.gamma_\1'),
)
_DINOV3_KEYS = (r'embeddings\.register_tokens', r'layer\.0\.attention\.q_proj\.weight')
_BEIT = (
    *_VIT,
    (r'\.lambda_([12])$', r'.gamma_\1'),
    (r'^encoder\.relative_position_bias\.', 'rel_pos_bias.'),
    (r'\.attention\.attention\.relative_position_bias\.', '.attn.'),
    (r'^pooler\.layernorm\.', 'fc_norm.'),
)
_BEIT_LEFT_OUT = (*_HEADS, r'.*\.relative_position_index$', r'fpn\d\.')
_CLIP_KEY = r'embeddings\.patch_embedding\.weight'
_CLIP_LEFT_OUT = (*_HEADS, *_TEXT, r'head\.', r'embeddings\.position_ids$')
_SAM_KEYS = (_CONV_KEY, r'layers\.0\.attn\.rel_pos_h', r'layers\.0\.layer_norm1\.weight')
_SAM_NAMES = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.', 'blocks.'),
    (r'^(blocks\..*)\.layer_norm([12])\.', r'\1.norm\2.'),
    (r'\.mlp\.lin([12])\.', r'.mlp.fc\1.'),
    (r'^neck\.conv1\.', 'neck.0.'),
    (r'^neck\.layer_norm1\.', 'neck.1.'),
    (r'^neck\.conv2\.', 'neck.2.'),
    (r'^neck\.layer_norm2\.', 'neck.3.'),
)
_SAM2_KEYS = (_CONV_KEY, r'pos_embed_window', r'blocks\.0\.mlp\.proj_in\.weight')
_SAM2 = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'\.layer_norm([12])\.', r'.norm\1.'),
    (r'\.mlp\.proj_in\.', '.mlp.fc1.'),
    (r'\.mlp\.proj_out\.', '.mlp.fc2.'),
)
_HIERA_LEFT_OUT = (*_HEADS, r'multiscale_fusion\.', r'hidden_states_norms\.')
_HIERA = (
    *_EMBEDDINGS,
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'^pooler\.layernorm\.', 'norm.'),
)


def _of(
    timm_class: str,
    family: str,
    keys: tuple[str, ...],
    renames: tuple[tuple[str, str], ...],
    left_out: tuple[str, ...] = _HEADS,
    finish: Any = _fuse,
) -> Layout:
    return Layout('transformers', family, (timm_class,), keys, left_out, renames, finish)


LAYOUTS = (
    _of('Eva', 'DINOv3', _DINOV3_KEYS, _DINOV3, finish=_dinov3),
    _of(
        'VisionTransformer',
        'DINOv2 with registers',
        (*_DINOV2_KEYS, r'embeddings\.register_tokens'),
        _DINOV2,
        finish=_registers,
    ),
    _of('VisionTransformer', 'DINOv2', _DINOV2_KEYS, _DINOV2),
    _of('Beit', 'BEiT', (_PATCH_KEY, rf'{_LAYER}lambda_1'), _BEIT, _BEIT_LEFT_OUT),
    _of(
        'VisionTransformer', 'ViT or MAE', (_PATCH_KEY, rf'{_LAYER}layernorm_before\.weight'), _VIT
    ),
    _of(
        'SwinTransformerV2',
        'Swin V2',
        (_PATCH_KEY, rf'{_WINDOWS}logit_scale'),
        _SWIN,
        _SWIN_LEFT_OUT,
    ),
    _of(
        'SwinTransformer',
        'Swin',
        (_PATCH_KEY, rf'{_WINDOWS}relative_position_bias_table'),
        _SWIN,
        _SWIN_LEFT_OUT,
    ),
    *(
        _of('VisionTransformer', family, (_CLIP_KEY, key), _CLIP, _CLIP_LEFT_OUT, _clip)
        for family, key in (
            ('CLIP', r'vision_model\.pre_layrnorm\.weight'),
            ('SigLIP', r'vision_model\.post_layernorm\.weight'),
        )
    ),
    # Of timm's SAM, the neck is a part.
    _of('VisionTransformerSAM', 'SAM', _SAM_KEYS, _SAM_NAMES, _SAM[1:], None),
    _of('HieraDet', 'SAM 2', _SAM2_KEYS, _SAM2, _SAM, None),
    _of(
        'Hiera',
        'Hiera',
        (_PATCH_KEY, r'encoder\.stages\.0\.layers\.0\.attn\.qkv\.weight'),
        _HIERA,
        _HIERA_LEFT_OUT,
        _hiera,
    ),
)
