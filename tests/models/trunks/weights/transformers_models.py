"""Tiny models of Hugging Face transformers, beside the trunks that take their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmsigma.models.tuners.injection import AdapterBank

hf = pytest.importorskip('transformers')
_PLAIN = {'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 2}
VIT = {**_PLAIN, 'intermediate_size': 64, 'image_size': 64, 'patch_size': 16}
_TIMM = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
_TEXT = {**_PLAIN, 'intermediate_size': 64, 'vocab_size': 50}
_SWIN = {'embed_dim': 16, 'depths': [2, 2], 'num_heads': [1, 2], 'window_size': 4, 'image_size': 64}
_SWIN_TIMM = {'embed_dim': 16, 'depths': (2, 2), 'num_heads': (1, 2), 'window_size': 4}


@dataclass(frozen=True)
class Case:
    """A model of transformers, ours, and where its features are.

    Attributes:
        model: Builds transformers' model.
        trunk: Our trunk's config, without weights.
        features: ``(model, images) -> features``: tokens ``(B, P + h * w, C)``, or a map
            ``(B, h, w, C)``, of the last block.
        left_out: Of what the loader must say that it left it out.
        size: Height and width of the images, in pixels.
    """

    model: Callable[[], nn.Module]
    trunk: dict[str, Any]
    features: Callable[[Any, Tensor], Tensor] = lambda model, x: model(x).last_hidden_state
    left_out: tuple[str, ...] = ()
    size: tuple[int, int] = (64, 64)


def vit(model_name: str, patch: int = 16, side: int = 64, **args: Any) -> dict[str, Any]:
    args = {**_TIMM, 'img_size': side, 'mlp_ratio': 2, **args}
    return {'type': 'TimmViT', 'model_name': model_name, 'model_args': args}


def dinov2(registers: bool = False, head: bool = False, **options: Any) -> nn.Module:
    name = 'Dinov2WithRegisters' if registers else 'Dinov2'
    options = {**_PLAIN, 'mlp_ratio': 2, 'image_size': 56, 'patch_size': 14, **options}
    config = getattr(hf, f'{name}Config')(**options)
    return getattr(hf, f'{name}{"ForImageClassification" if head else "Model"}')(config)


def dinov3(gated: bool = False, bias: bool = False) -> nn.Module:
    config = hf.DINOv3ViTConfig(
        **VIT,
        num_register_tokens=4,
        use_gated_mlp=gated,
        hidden_act='silu' if gated else 'gelu',
        query_bias=bias,
        value_bias=bias,
    )
    return hf.DINOv3ViTModel(config)


def eva(model_name: str, **args: Any) -> dict[str, Any]:
    return {**vit(model_name, **args), 'type': 'TimmEVA'}


def mae(model: Any, images: Tensor) -> Tensor:
    """All patches in their order, though it drops and shuffles them by default."""
    model.config.mask_ratio = 0.0
    return model.vit(images, noise=torch.arange(16.0).expand(len(images), -1)).last_hidden_state


def siglip(model: Any, images: Tensor) -> Tensor:
    return model.vision_model(images).last_hidden_state


def clip(model: Any, images: Tensor) -> Tensor:
    """With the norm that transformers applies to the class token only, as timm's model does."""
    vision = model.vision_model
    return vision.post_layernorm(vision(images).last_hidden_state)


def beit(pretraining: bool, **options: Any) -> nn.Module:
    config = hf.BeitConfig(**VIT, layer_scale_init_value=0.1, **options)
    return (hf.BeitForMaskedImageModeling if pretraining else hf.BeitForImageClassification)(config)


def beit_hidden(model: Any, images: Tensor) -> Tensor:
    """Behind the last block; the pooler's norm is part of the head."""
    return model.beit(images).last_hidden_state


def swin_map(model: Any, images: Tensor) -> Tensor:
    tokens = (getattr(model, 'swin', None) or getattr(model, 'swinv2', model))(images)
    return tokens.last_hidden_state.unflatten(1, (8, 8))


def sam(wrapped: bool) -> nn.Module:
    vision = hf.SamVisionConfig(
        **_PLAIN,
        output_channels=16,
        image_size=64,
        patch_size=16,
        window_size=3,
        global_attn_indexes=[1],
        mlp_dim=64,
    )
    if not wrapped:
        return hf.SamVisionModel(vision)
    prompt = hf.SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=16)
    mask = hf.SamMaskDecoderConfig(hidden_size=16, mlp_dim=16, num_attention_heads=2)
    return hf.SamModel(hf.SamConfig(vision, prompt, mask))


def sam_hidden(model: Any, images: Tensor) -> Tensor:
    return model.vision_encoder(images, output_hidden_states=True).hidden_states[-1]


def sam2(neck: bool) -> nn.Module:
    config = hf.Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=2,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[2, 4, 8, 16],
        window_size_per_stage=[4, 2, 4, 2],
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=[3],
        image_size=[64, 64],
    )
    if not neck:
        return hf.Sam2HieraDetModel(config)
    channels = [128, 64, 32, 16]
    vision = hf.Sam2VisionConfig(
        backbone_config=config,
        backbone_channel_list=channels,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )
    return hf.Sam2VisionModel(vision)


def sam2_map(model: Any, images: Tensor) -> Tensor:
    return getattr(model, 'backbone', model)(images).last_hidden_state


_SAM2 = {
    'type': 'TimmHieraDet',
    'model_name': 'sam2_hiera_tiny',
    'model_args': {
        'embed_dim': 16,
        'num_heads': 2,
        'stages': (1, 1, 2, 1),
        'window_spec': (4, 2, 4, 2),
        'global_att_blocks': (3,),
        'act_layer': 'gelu',
    },
}


def hiera(cls: str) -> nn.Module:
    config = hf.HieraConfig(
        embed_dim=16,
        depths=[1, 1, 2],
        num_heads=[1, 2, 4],
        image_size=[64, 64],
        masked_unit_size=[4, 4],
        masked_unit_attention=[True, True, False],
        embed_dim_multiplier=2.0,
        num_query_pool=2,
        decoder_hidden_size=16,
        decoder_depth=1,
        decoder_num_heads=1,
    )
    return getattr(hf, cls)(config)


def hiera_map(model: Any, images: Tensor) -> Tensor:
    found = getattr(model, 'hiera', model)(images, output_hidden_states=True)
    return found.reshaped_hidden_states[-1]


def hiera_unmasked(model: Any, images: Tensor) -> Tensor:
    twin = hf.HieraModel(model.config).eval()
    twin.load_state_dict(model.hiera.state_dict(), strict=False)  # it has a pooler besides
    return hiera_map(twin, images)


_HIERA = {
    'type': 'TimmHiera',
    'model_name': 'hiera_tiny_224',
    'model_args': {
        'embed_dim': 16,
        'num_heads': 1,
        'stages': (1, 1, 2),
        'q_pool': 2,
        'mask_unit_size': (4, 4),
        'mask_unit_attn': (True, True, False),
        'img_size': (64, 64),
    },
}
_SAM_TRUNK = {
    'type': 'TimmSAM',
    'model_name': 'samvit_base_patch16',
    'model_args': {
        **_TIMM,
        'img_size': 64,
        'mlp_ratio': 2,
        'window_size': 3,
        'global_attn_indexes': (1,),
    },
}
DINOV2 = vit('vit_small_patch14_dinov2', side=56)
REGISTERS = vit('vit_small_patch14_reg4_dinov2', side=56)
_BICUBIC = {**DINOV2, 'pos_resample': 'bicubic'}
_MASK = ('mask_token',)


def _swin(model_name: str) -> dict[str, Any]:
    return {
        'type': 'TimmSwin',
        'model_name': model_name,
        'model_args': {**_SWIN_TIMM, 'img_size': 64, 'always_partition': True},
    }


CASES = {
    'dinov2': Case(dinov2, DINOV2, size=(56, 56), left_out=_MASK),
    'dinov2-classifier': Case(
        lambda: dinov2(head=True),
        DINOV2,
        lambda model, x: model.dinov2(x).last_hidden_state,
        size=(56, 56),
        left_out=('classifier.* x 2', 'mask_token'),
    ),
    # Another grid: the release of DINOv2 does not antialias, that with registers does.
    'dinov2-grid': Case(dinov2, _BICUBIC, size=(42, 98), left_out=_MASK),
    'dinov2-small-grid': Case(dinov2, _BICUBIC, size=(28, 28), left_out=_MASK),
    'dinov2-swiglu': Case(
        lambda: dinov2(use_swiglu_ffn=True, mlp_ratio=4),
        vit('vit_giant_patch14_dinov2', side=56, mlp_ratio=5.5),
        size=(56, 56),
        left_out=_MASK,
    ),
    'registers': Case(lambda: dinov2(True), REGISTERS, size=(56, 56), left_out=_MASK),
    'registers-grid': Case(lambda: dinov2(True), REGISTERS, size=(42, 98), left_out=_MASK),
    'dinov3': Case(dinov3, eva('vit_small_patch16_dinov3'), size=(32, 80), left_out=_MASK),
    'dinov3-gated': Case(
        lambda: dinov3(True), eva('vit_small_plus_patch16_dinov3'), size=(32, 80), left_out=_MASK
    ),
    'dinov3-biases': Case(
        lambda: dinov3(bias=True), eva('vit_small_patch16_dinov3_qkvb'), left_out=_MASK
    ),
    'siglip': Case(
        lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT)),
        vit('vit_base_patch16_siglip_256', act_layer='gelu_tanh'),
        siglip,
        ('vision_model.head.* x 11',),
    ),
    'siglip2-with-text': Case(
        lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=VIT, text_config=_TEXT)),
        vit('vit_base_patch16_siglip_256.v2_webli', act_layer='gelu_tanh'),
        siglip,
        ('text_model.* x ', 'logit_scale', 'logit_bias', 'vision_model.head.* x 11'),
    ),
    'clip': Case(
        lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT)),
        vit('vit_base_patch16_clip_quickgelu_224'),
        clip,
    ),
    'clip-with-text': Case(
        lambda: hf.CLIPModel(
            hf.CLIPConfig(vision_config={**VIT, 'hidden_act': 'gelu'}, text_config=_TEXT)
        ),
        vit('vit_base_patch16_clip_224'),
        clip,
        ('text_model.* x ', 'visual_projection.weight', 'logit_scale'),
    ),
    'vit': Case(
        lambda: hf.ViTModel(hf.ViTConfig(**VIT)),
        vit('vit_base_patch16_224'),
        left_out=('pooler.dense.* x 2',),
    ),
    'mae': Case(
        lambda: hf.ViTMAEForPreTraining(
            hf.ViTMAEConfig(
                **VIT,
                decoder_hidden_size=32,
                decoder_num_hidden_layers=1,
                decoder_num_attention_heads=2,
                decoder_intermediate_size=64,
            )
        ),
        vit('vit_base_patch16_224.mae', global_pool='token'),
        mae,
        ('decoder.* x 24',),
    ),
    'beit': Case(
        lambda: beit(False, use_relative_position_bias=True),
        {**vit('beit_base_patch16_224'), 'type': 'TimmBEiT'},
        beit_hidden,
        ('classifier.* x 2',),
    ),
    'beit-mim': Case(
        lambda: beit(
            True,
            use_relative_position_bias=True,
            use_absolute_position_embeddings=True,
            use_mask_token=True,
        ),
        {
            **vit('beit_base_patch16_224', use_abs_pos_emb=True, use_fc_norm=False),
            'type': 'TimmBEiT',
        },
        lambda model, x: model.layernorm(model.beit(x).last_hidden_state),
        ('lm_head.* x 2', 'mask_token'),
    ),
    'swin': Case(
        lambda: hf.SwinModel(hf.SwinConfig(**_SWIN)),
        _swin('swin_tiny_patch4_window7_224'),
        swin_map,
        ('encoder.layers.*.relative_position_index x 4',),
    ),
    'swin-classifier': Case(
        lambda: hf.SwinForImageClassification(hf.SwinConfig(**_SWIN)),
        _swin('swin_tiny_patch4_window7_224'),
        swin_map,
        ('classifier.* x 2',),
    ),
    'swinv2': Case(
        lambda: hf.Swinv2Model(hf.Swinv2Config(**_SWIN)),
        _swin('swinv2_tiny_window8_256'),
        swin_map,
    ),
    'sam': Case(lambda: sam(False), _SAM_TRUNK, sam_hidden),
    'sam-with-decoder': Case(lambda: sam(True), _SAM_TRUNK, sam_hidden, ('mask_decoder',)),
    'sam2': Case(lambda: sam2(False), _SAM2, sam2_map),
    'sam2-with-neck': Case(lambda: sam2(True), _SAM2, sam2_map, ('neck.convs.* x 8',)),
    'hiera': Case(lambda: hiera('HieraModel'), _HIERA, hiera_map, ('head.norm.* x 2',)),
    'hiera-mae': Case(
        lambda: hiera('HieraForPreTraining'),
        _HIERA,
        hiera_unmasked,
        ('decoder.* x 20', 'multiscale_fusion.multi_scale_fusion_heads.* x '),
    ),
}


def filled(case: Case, seed: int = 0) -> nn.Module:
    """The model of transformers in eval mode; no parameter is zero or tiny."""
    model = case.model().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def save(model: Any, folder: Path, suffix: str) -> Path:
    if suffix == '.safetensors':
        model.save_pretrained(folder)
        return folder / 'model.safetensors'
    torch.save(model.state_dict(), folder / 'pytorch_model.bin')
    return folder / 'pytorch_model.bin'


def difference(case: Case, model: Any, trunk: Any, images: Tensor) -> float:
    """The largest difference of any value of the last block's features."""
    with torch.no_grad():
        theirs = case.features(model, images)
        if theirs.ndim == 4:
            last = len(trunk.blocks()) - 1
            [ours] = trunk.maps(images, AdapterBank(), [last])
            assert ours.shape == theirs.movedim(-1, 1).shape
            return (ours - theirs.movedim(-1, 1)).abs().max().item()
        tokens, state = trunk.embed(images)
        for index, block in enumerate(trunk.blocks()):
            tokens, state = AdapterBank().run(index, block, tokens, state)
        ours = trunk.norm(tokens, index)
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def pixels(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
