"""The real DINOv2 ViT-S/14 in three layouts gives the same features."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.shared import DINOV2 as WEIGHTS
from tests.shared import need

TIMM = {'type': 'TimmViT', 'model_name': 'vit_small_patch14_dinov2'}
MMPRETRAIN = {
    'type': 'MMPretrainViT',
    'arch': 'dinov2-small',
    'model_args': {'img_size': 518, 'patch_size': 14, 'layer_scale_init_value': 1.0},
}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope='module')
def real() -> None:
    need(WEIGHTS)


def renamed(*pairs: tuple[str, str]) -> dict[str, Tensor]:
    tensors = load_file(WEIGHTS)
    for old, new in pairs:
        tensors = {re.sub(old, new, key): value for key, value in tensors.items()}
    return tensors


def images() -> Tensor:
    return torch.randn(2, 3, 98, 126, generator=torch.Generator().manual_seed(0))


def maps(trunk: dict[str, Any], path: Path) -> tuple[Tensor, ...]:
    backbone = AdaptedBackbone({**trunk, 'weights': str(path)}, {'type': 'Frozen'}).eval()
    with torch.no_grad():
        return backbone(images())


def difference(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))


def transformers_model() -> Any:
    """transformers' own model with these weights, by the inverse of the loader's mapping."""
    hf = pytest.importorskip('transformers')
    config = hf.Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14
    )
    tensors = renamed(
        (r'^patch_embed\.proj\.', 'embeddings.patch_embeddings.projection.'),
        (r'^cls_token$', 'embeddings.cls_token'),
        (r'^pos_embed$', 'embeddings.position_embeddings'),
        (r'^norm\.', 'layernorm.'),
        (r'^blocks\.', 'encoder.layer.'),
        (r'\.attn\.proj\.', '.attention.output.dense.'),
        (r'\.ls([12])\.gamma$', r'.layer_scale\1.lambda1'),
    )
    for key in [key for key in tensors if '.attn.qkv.' in key]:
        parts = tensors.pop(key).chunk(3)
        for name, part in zip(('query', 'key', 'value'), parts, strict=True):
            tensors[key.replace('attn.qkv', f'attention.attention.{name}')] = part
    tensors['embeddings.mask_token'] = torch.zeros(1, 384)
    model = hf.Dinov2Model(config)
    model.load_state_dict(tensors)
    return model.eval()


def test_as_timm() -> None:
    trunk = build(REGISTRY, {**TIMM, 'weights': str(WEIGHTS)})
    own = trunk.model.state_dict()
    assert trunk.loaded
    assert all(torch.equal(own[key], value) for key, value in load_file(WEIGHTS).items())


@pytest.mark.parametrize('method', ['bicubic', 'bicubic-antialias'])
def test_as_transformers(method: str, tmp_path: Path) -> None:
    model = transformers_model()
    model.save_pretrained(tmp_path)
    trunk = {**TIMM, 'pos_resample': method}
    ours = maps(trunk, tmp_path / 'model.safetensors')
    assert difference(ours, maps(trunk, WEIGHTS)) == 0

    with torch.no_grad():
        tokens = model(images()).last_hidden_state[:, 1:]
    theirs = tokens.unflatten(1, (7, 9)).permute(0, 3, 1, 2)
    # transformers resamples positions as the release does, without antialiasing.
    assert (difference((theirs,), ours[-1:]) <= 1e-4) == (method == 'bicubic')


def test_as_mmpretrain(tmp_path: Path) -> None:
    tensors = renamed(
        (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
        (r'^norm\.', 'ln1.'),
        (r'^blocks\.', 'layers.'),
        (r'\.norm([12])\.', r'.ln\1.'),
        (r'\.ls1\.gamma$', '.attn.gamma1.weight'),
        (r'\.ls2\.gamma$', '.ffn.gamma2.weight'),
        (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
        (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
        ('^', 'backbone.'),
    )
    save_file(tensors, tmp_path / 'dinov2.safetensors')
    ours = maps(MMPRETRAIN, tmp_path / 'dinov2.safetensors')
    assert difference(ours, maps({**TIMM, 'pos_resample': 'bicubic'}, WEIGHTS)) <= 1e-4
