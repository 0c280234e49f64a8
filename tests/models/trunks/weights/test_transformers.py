"""Parity with Hugging Face transformers: its models, saved, give our trunks' features."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.weights import layouts, loading
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build

pytest.importorskip('transformers')
from tests.models.trunks.weights.transformers_models import (
    CASES,
    DINOV2,
    REGISTERS,
    VIT,
    Case,
    difference,
    eva,
    filled,
    hf,
    pixels,
    save,
    vit,
)

TOLERANCE = 1e-4


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the loader says."""
    lines: list[str] = []
    monkeypatch.setattr(
        'mmsigma.models.trunks.weights.loading.print_log',
        lambda text, **options: lines.append(text),
    )
    return lines


@pytest.mark.parametrize('suffix', ['.safetensors', '.bin'])
@pytest.mark.parametrize('name', CASES)
def test_features(name: str, suffix: str, tmp_path: Path, said: list[str]) -> None:
    case = CASES[name]
    model = filled(case)
    trunk = build(REGISTRY, {**case.trunk, 'weights': str(save(model, tmp_path, suffix))})
    assert difference(case, model, trunk, pixels(case.size)) <= TOLERANCE
    assert trunk.loaded
    assert len(said) <= 1
    assert all(part in said[0] for part in case.left_out), said


# --- What does not fit. ---


def message(case: Case, trunk: dict[str, Any], tmp_path: Path) -> str:
    path = save(filled(case), tmp_path, '.safetensors')
    with pytest.raises(WeightsError) as caught:
        build(REGISTRY, {**trunk, 'weights': str(path)})
    assert str(path) in str(caught.value)
    assert 'do not fit this architecture' in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('theirs', ['dinov3', 'beit', 'swin', 'swinv2', 'sam', 'sam2', 'hiera'])
def test_another_family(theirs: str, tmp_path: Path) -> None:
    text = message(CASES[theirs], DINOV2, tmp_path)
    names = {'dinov3': 'DINOv3', 'beit': 'BEiT', 'swin': 'Swin', 'swinv2': 'Swin V2', 'sam': 'SAM'}
    name = names.get(theirs, {'sam2': 'SAM 2', 'hiera': 'Hiera'}.get(theirs))
    assert f'they look like {name} weights (transformers layout)' in text
    assert "'vit_small_patch14_dinov2' is a VisionTransformer" in text


@pytest.mark.parametrize('theirs', ['dinov2', 'clip', 'siglip', 'vit'])
def test_another_family_of_one_class(theirs: str, tmp_path: Path) -> None:
    family = {'dinov2': 'DINOv2', 'clip': 'CLIP', 'siglip': 'SigLIP', 'vit': 'ViT or MAE'}[theirs]
    text = message(CASES[theirs], REGISTERS, tmp_path)
    assert f'they look like {family} weights (transformers layout)' in text
    assert 'missing keys' in text


def test_another_size(tmp_path: Path) -> None:
    trunk = vit('vit_small_patch14_dinov2', side=56, depth=3)
    text = message(CASES['dinov2'], trunk, tmp_path)
    assert '14 missing keys (blocks.2.' in text

    text = message(
        CASES['dinov2'], vit('vit_small_patch14_dinov2', side=56, embed_dim=64), tmp_path
    )
    assert '(32, 3, 14, 14) in the file, (64, 3, 14, 14) in the model' in text


def test_biases_that_the_model_lacks(tmp_path: Path) -> None:
    text = message(CASES['dinov3-biases'], eva('vit_small_patch16_dinov3'), tmp_path)
    assert 'blocks.0.attn.q' in text and '_qkvb' in text


def test_biases_that_are_zero(tmp_path: Path, said: list[str]) -> None:
    """As those of the published distilled models are, which timm builds without."""
    case = CASES['dinov3-biases']
    model = filled(case)
    with torch.no_grad():
        for layer in model.layer:
            layer.attention.q_proj.bias.zero_()
            layer.attention.v_proj.bias.zero_()
    path = save(model, tmp_path, '.safetensors')
    trunk = build(REGISTRY, {**eva('vit_small_patch16_dinov3'), 'weights': str(path)})
    assert difference(case, model, trunk, pixels((64, 64))) <= TOLERANCE
    assert 'left out 5 keys (embeddings.mask_token, blocks.*.bias x 4)' in said[0]


def test_naflex(tmp_path: Path) -> None:
    config = hf.Siglip2VisionConfig(**{**VIT, 'num_patches': 16})
    case = Case(lambda: hf.Siglip2VisionModel(config), {})
    text = message(case, vit('vit_base_patch16_siglip_256'), tmp_path)
    assert 'NaFlex' in text and 'fixed-resolution' in text


@pytest.mark.parametrize(
    ('name', 'layout', 'prefix'),
    [
        ('Sam2', 'SAM 2', 'vision_encoder.backbone.'),
        ('Sam2Video', 'SAM 2', 'vision_encoder.backbone.'),
        ('Sam', 'SAM', 'vision_encoder.'),
    ],
)
def test_everything_beside_the_encoder_is_known(name: str, layout: str, prefix: str) -> None:
    with torch.device('meta'):
        model = getattr(hf, f'{name}Model')(getattr(hf, f'{name}Config')())
    state = model.state_dict()
    found, at = layouts.recognise(state, loading.LAYOUTS)
    assert str(found) == f'transformers/{layout}' and at == prefix
    kept, _ = layouts.convert(state, found, at, torch.nn.Identity())
    assert len(kept) == sum(key.startswith(prefix) for key in state)


# --- Models in several files. ---


def parts(tmp_path: Path) -> Path:
    filled(CASES['dinov2']).save_pretrained(tmp_path, max_shard_size='50KB')
    return tmp_path / 'model.safetensors.index.json'


def test_several_files(tmp_path: Path) -> None:
    index = parts(tmp_path)
    assert len(list(tmp_path.glob('*.safetensors'))) > 1
    trunk = build(REGISTRY, {**DINOV2, 'weights': str(index)})
    model = filled(CASES['dinov2'])
    assert difference(CASES['dinov2'], model, trunk, pixels((56, 56))) <= TOLERANCE


def test_several_files_that_are_not_all_there(tmp_path: Path) -> None:
    index = parts(tmp_path)
    one = sorted(tmp_path.glob('*.safetensors'))[0]
    with pytest.raises(WeightsError, match=r'one part of several.*index\.json'):
        build(REGISTRY, {**DINOV2, 'weights': str(one)})
    with pytest.raises(WeightsError, match=r'are a folder; .*index\.json'):
        build(REGISTRY, {**DINOV2, 'weights': str(tmp_path)})
    one.unlink()
    with pytest.raises(WeightsError, match=rf'name {one.name}, which is not beside it'):
        build(REGISTRY, {**DINOV2, 'weights': str(index)})
    index.write_text(index.read_text()[:20])
    with pytest.raises(WeightsError, match='no index of weight files'):
        build(REGISTRY, {**DINOV2, 'weights': str(index)})
