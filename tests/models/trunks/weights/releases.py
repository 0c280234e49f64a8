"""The tiny trunks' weights as the original releases name and wrap them."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def extra(*shapes: int) -> Tensor:
    return torch.full(shapes, 7.0)


def renamed(tensors: State, *pairs: tuple[str, str]) -> State:
    for old, new in pairs:
        tensors = {re.sub(old, new, key): value for key, value in tensors.items()}
    return tensors


def dinov2(own: State) -> State:
    return own | {'mask_token': extra(1, 32)}


def registers(own: State) -> State:
    """The release has a position for the class token, which timm has added to the token."""
    place = extra(1, 1, 32)
    return {
        **{k: v for k, v in own.items() if k != 'reg_token'},
        'register_tokens': own['reg_token'],
        'cls_token': own['cls_token'] - place,
        'pos_embed': torch.cat([place, own['pos_embed']], dim=1),
        'mask_token': extra(1, 32),
    }


def teacher(own: State) -> dict[str, Any]:
    tensors = {f'backbone.{key}': value for key, value in own.items()}
    return {'teacher': {**tensors, 'dino_head.mlp.0.weight': extra(4, 32)}}


def dinov3(own: State) -> State:
    biases = {f'blocks.{i}.attn.qkv.bias': torch.zeros(96) for i in (0, 1)}
    masks = {f'{key}_mask': torch.full((96,), float('nan')) for key in biases}
    other = {
        'mask_token': extra(1, 32),
        'rope_embed.periods': extra(4),
        'local_cls_norm.weight': extra(32),
    }
    names = ((r'\.gamma_([12])$', r'.ls\1.gamma'), ('^reg_token', 'storage_tokens'))
    return {**renamed(own, *names), **biases, **masks, **other}


def text() -> State:
    return {
        'transformer.resblocks.0.ln_1.weight': extra(8),
        'token_embedding.weight': extra(9, 8),
        'positional_embedding': extra(5, 8),
        'ln_final.weight': extra(8),
        'text_projection': extra(8, 16),
        'logit_scale': extra(1)[0],
        'logit_bias': extra(1)[0],
    }


def clip(own: State) -> State:
    """OpenAI's release: a vision tower beside one for text."""
    names = (
        (r'\.norm([12])\.', r'.ln_\1.'),
        (r'^norm_pre\.', 'ln_pre.'),
        (r'^norm\.', 'ln_post.'),
        (r'\.qkv\.', '.in_proj_'),
        (r'\.attn\.proj\.', '.attn.out_proj.'),
        (r'\.mlp\.fc1\.', '.mlp.c_fc.'),
        (r'\.mlp\.fc2\.', '.mlp.c_proj.'),
        (r'^blocks\.', 'transformer.resblocks.'),
        (r'^patch_embed\.proj\.', 'conv1.'),
        (r'^cls_token', 'class_embedding'),
        (r'^pos_embed', 'positional_embedding'),
        ('^', 'visual.'),
    )
    tower = renamed(own, *names)
    tower['visual.class_embedding'] = tower['visual.class_embedding'][0, 0]
    tower['visual.positional_embedding'] = tower['visual.positional_embedding'][0]
    return {**tower, 'visual.proj': extra(32, 16), **text()}


def open_clip(own: State) -> State:
    tower = renamed(own, ('^', 'visual.trunk.'))
    return {**tower, 'visual.head.proj.weight': extra(16, 32), **text(), 'text.proj': extra(2)}


def eva_clip(own: State) -> dict[str, State]:
    tower = renamed(own, ('^', 'visual.'))
    return {
        'module': {**tower, **text(), 'text.blocks.0.x': extra(2), 'visual.head.weight': extra(2)}
    }


def tips(own: State) -> State:
    tower = renamed(dinov2(own), ('^', 'vision_encoder.'))
    return {**tower, 'text_encoder.ln_final.weight': extra(8)}


def mae(own: State) -> dict[str, State]:
    decoder = {
        'mask_token': extra(1, 1, 8),
        'decoder_pos_embed': extra(1, 17, 8),
        'decoder_embed.weight': extra(8, 32),
        'decoder_blocks.0.norm1.weight': extra(8),
        'decoder_pred.weight': extra(768, 8),
    }
    return {'model': {**own, **decoder}}


def deit3(own: State) -> dict[str, State]:
    return {'model': renamed(own, (r'\.ls([12])\.gamma$', r'.gamma_\1'))}


def beit(own: State) -> dict[str, Any]:
    tables = [key for key in own if key.endswith('relative_position_bias_table')]
    index = {key.replace('bias_table', 'index'): extra(17, 17) for key in tables}
    other = {'mask_token': extra(1, 1, 32), 'lm_head.weight': extra(9, 32)}
    return {'model': {'module': {**own, **index, **other}}}


def swin(own: State) -> dict[str, State]:
    """Patches merge at the end of a stage; buffers are in the file."""

    def earlier(match: re.Match[str]) -> str:
        return f'layers.{int(match[1]) - 1}.downsample'

    tensors = {re.sub(r'layers\.(\d+)\.downsample', earlier, k): v for k, v in own.items()}
    at = 'layers.0.blocks.1.'
    buffers = {
        f'{at}attn_mask': extra(4, 16, 16),
        f'{at}attn.relative_position_index': extra(16, 16),
        f'{at}attn.relative_coords_table': extra(1, 7, 7, 2),
    }
    return {'model': {**tensors, **buffers, 'head.weight': extra(5, 32)}}


def sam(own: State) -> State:
    tensors = renamed(own, (r'\.mlp\.fc', '.mlp.lin'), ('^', 'image_encoder.'))
    decoder = {'prompt_encoder.no_mask_embed.weight': extra(4), 'mask_decoder.x': extra(2)}
    return {**tensors, **decoder}


def sam2(own: State) -> dict[str, State]:
    names = (
        (r'\.mlp\.fc1\.', '.mlp.layers.0.'),
        (r'\.mlp\.fc2\.', '.mlp.layers.1.'),
        ('^', 'image_encoder.trunk.'),
    )
    other = {
        'image_encoder.neck.convs.0.conv.weight': extra(4, 4),
        'maskmem_tpos_enc': extra(7, 1, 1, 4),
        'no_mem_embed': extra(1, 1, 4),
        'no_mem_pos_enc': extra(1, 1, 4),
        'no_obj_ptr': extra(1, 4),
        'no_obj_embed_spatial': extra(1, 4),
        'memory_attention.norm.weight': extra(4),
        'memory_encoder.out_proj.weight': extra(4, 4),
        'sam_prompt_encoder.not_a_point_embed.weight': extra(1, 4),
        'sam_mask_decoder.iou_token.weight': extra(1, 4),
        'obj_ptr_proj.layers.0.weight': extra(4, 4),
        'obj_ptr_tpos_proj.weight': extra(4, 4),
        'mask_downsample.weight': extra(1, 1, 4, 4),
    }
    return {'model': {**renamed(own, *names), **other}}


def hiera(own: State) -> dict[str, State]:
    other = {
        'encoder_norm.weight': extra(64),
        'encoder_norm.bias': extra(64),
        'mask_token': extra(1, 1, 64),
        'decoder_embed.weight': extra(8, 64),
        'multi_scale_fusion_heads.0.weight': extra(4, 4),
    }
    return {'model_state': {**own, **other}}


# Trunk, its weights as the release has them, and what must be said of them.
RELEASES: dict[str, tuple[str, Callable[[State], dict[str, Any]], tuple[str, ...]]] = {
    'dinov2': ('dinov2', dinov2, ('timm/DINOv2; left out 1 key (mask_token)',)),
    'dinov2-teacher': ('dinov2', teacher, ('left out 1 key (dino_head.mlp.0.weight)',)),
    'registers': ('registers', registers, ('left out 1 key (mask_token)',)),
    'dinov3': (
        'dinov3',
        dinov3,
        ('release/DINOv3', 'left out 7 keys', 'rope_embed.periods', 'local_cls_norm', 'mask_token'),
    ),
    'clip': ('clip', clip, ('release/CLIP', 'transformer.', 'text_projection', 'logit_scale')),
    'open_clip': (
        'siglip',
        open_clip,
        ('release/open_clip', 'visual.head.proj.weight, ', 'text_projection'),
    ),
    'eva-clip': ('eva02', eva_clip, ('timm/EVA;', 'text.blocks.0.x', 'logit_scale')),
    'tips': ('dinov2', tips, ('text_encoder.ln_final.weight', 'mask_token')),
    'pre-logits': (  # timm's filter drops them in silence
        'dinov2',
        lambda own: {**own, 'pre_logits.fc.weight': extra(32, 32)},
        ('left out 1 key (pre_logits.fc.weight)',),
    ),
    'mae': ('dinov2', mae, ('left out 5 keys (decoder_', 'mask_token')),
    'deit3': ('deit3', deit3, ()),
    'beit': ('beit', beit, ('mask_token', 'lm_head.weight', '*.relative_position_index x 2')),
    'swin': ('swin', swin, ('layers.0.blocks.1.* x 3', 'head.')),
    'swinv2': ('swinv2', swin, ('layers.0.blocks.1.* x 3', 'head.')),
    'sam': ('sam', sam, ('release/SAM;', 'prompt_encoder.no_mask_embed.weight', 'mask_decoder.x')),
    'sam2': ('hieradet', sam2, ('release/SAM 2;', 'memory_attention.norm.weight')),
    'hiera': ('hiera', hiera, ('mask_token', 'multi_scale_fusion_heads.0.weight')),
}
