"""Original releases: files that name things as their authors did load to the bit, and say so."""

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.weights import layouts, loading
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.models.trunks.weights.releases import (
    RELEASES,
    clip,
    dinov2,
    dinov3,
    extra,
    open_clip,
    registers,
)
from tests.tiny import TRUNKS, state, trunk_config


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the loader says, and how loudly."""
    lines: list[tuple[str, int]] = []
    monkeypatch.setattr(
        loading, 'print_log', lambda line, logger, level: lines.append((line, level))
    )
    return lines


def load(trunk: str, tensors: dict[str, Any], tmp_path: Path, **options: Any) -> Trunk:
    torch.save(tensors, tmp_path / 'release.pth')
    config = trunk_config(trunk, weights=str(tmp_path / 'release.pth'), **options)
    return build(REGISTRY, config)


def plain_args(**args: Any) -> dict[str, Any]:
    return {'model_args': {'embed_dim': 32, 'depth': 2, 'num_heads': 2, **args}}


@pytest.mark.parametrize('release', RELEASES)
def test_releases_load_to_the_bit(
    release: str, tmp_path: Path, said: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    trunk, convert, parts = RELEASES[release]
    exact = build(REGISTRY, trunk_config(trunk)).model.state_dict()
    said.clear()
    own = load(trunk, convert(state(trunk)), tmp_path).model.state_dict()
    for key, value in exact.items():
        if release == 'registers' and key == 'cls_token':  # a difference was taken and undone
            assert (own[key] - value).abs().max() < 1e-5
        else:
            assert torch.equal(own[key], value)
    assert len(said) == bool(parts)
    for line, _ in said:
        assert all(part in line for part in parts), line
    assert capsys.readouterr().out == ''  # timm prints where it finds no bias


def test_an_unknown_key_beside_the_encoder(tmp_path: Path) -> None:
    for name in ('open_clip', 'dinov2', 'sam2', 'sam', 'clip', 'dinov3', 'swin', 'hiera'):
        trunk, convert, _ = RELEASES[name]
        tensors = convert(state(trunk))
        inner = tensors.get('model', tensors.get('model_state', tensors))
        inner['audio_tower.weight'] = extra(3)
        with pytest.raises(WeightsError, match=r'1 unknown keys \(audio_tower\.weight'):
            load(trunk, tensors, tmp_path)


def test_an_encoder_key_that_is_missing(tmp_path: Path) -> None:
    for name in ('clip', 'open_clip', 'swin', 'sam2', 'dinov3'):
        trunk, convert, _ = RELEASES[name]
        tensors = convert(state(trunk))
        inner = tensors.get('model', tensors)
        key = next(k for k in inner if re.search(r'1\.(norm2|ln_2)\.weight', k))
        del inner[key]
        with pytest.raises(WeightsError, match=r'1 missing keys \(.*norm2\.weight'):
            load(trunk, tensors, tmp_path)


def test_biases_that_the_model_lacks(tmp_path: Path) -> None:
    tensors = dinov3(state('dinov3'))
    tensors['blocks.1.attn.qkv.bias'][40] = 1  # of the keys, which the release masks
    assert load('dinov3', tensors, tmp_path).loaded
    tensors['blocks.1.attn.qkv.bias'][70] = 1
    with pytest.raises(WeightsError, match=r'blocks\.1\.attn\.qkv\.bias is not zero.*_qkvb'):
        load('dinov3', tensors, tmp_path)


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    tensors = open_clip(state('siglip')) | {'norm.weight': extra(32)}
    with pytest.raises(WeightsError, match=r'two tensors of the file would become norm\.weight'):
        load('siglip', tensors, tmp_path)


# --- What a file looks like. ---


@pytest.mark.parametrize('trunk', TRUNKS)
def test_layouts_are_told_apart(trunk: str) -> None:
    """A file of timm's is taken for one that its own class runs, or for none."""
    found = layouts.recognise(state(trunk), loading.LAYOUTS)
    if TRUNKS[trunk].config['type'].startswith('MMPretrain'):
        assert found is None or found[0].origin == 'mmpretrain'
    elif found is None:
        assert trunk == 'aimv2' or TRUNKS[trunk].config['type'] == 'TimmGeneric'
    else:
        assert found[0].origin in ('timm', 'release')
        assert found[0].runs(build(REGISTRY, trunk_config(trunk)).model)


@pytest.mark.parametrize(
    ('theirs', 'looks'),
    [
        ('dinov2', 'DINOv2 weights (timm layout)'),
        ('swin', 'Swin weights (timm layout)'),
        ('swinv2', 'Swin V2 weights (timm layout)'),
        ('sam', 'SAM weights (timm layout)'),
        ('hieradet', 'SAM 2 weights (timm layout)'),
        ('hiera', 'Hiera weights (timm layout)'),
        ('beit', 'BEiT weights (timm layout)'),
        ('dinov3', 'DINOv3 weights (timm layout)'),
        ('mmpretrain', 'ViT weights (mmpretrain layout)'),
        ('mmpretrain-swin', 'Swin weights (mmpretrain layout)'),
    ],
)
def test_another_family_is_named(theirs: str, looks: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load('registers', state(theirs), tmp_path)
    assert f'they look like {looks} and ' in str(caught.value)


# --- Other sizes are said. ---


def test_nothing_to_say(tmp_path: Path, said: list[tuple[str, int]]) -> None:
    assert load('dinov2', state('dinov2'), tmp_path).loaded
    assert said == []


@pytest.mark.parametrize('convert', [lambda own: own, dinov2])
def test_resampled_positions_are_said(
    convert: Callable, tmp_path: Path, said: list[tuple[str, int]]
) -> None:
    load('dinov2', convert(state('dinov2')), tmp_path, **plain_args(img_size=(42, 84)))
    [(line, level)] = said
    assert 'pos_embed resampled 4x4 -> 3x6 (bicubic, antialias)' in line and level == 20


@pytest.mark.parametrize('trunk', ['registers', 'clip', 'siglip'])
def test_resampled_positions_of_other_layouts_are_said(
    trunk: str, tmp_path: Path, said: list[tuple[str, int]]
) -> None:
    convert = {'registers': registers, 'clip': clip, 'siglip': open_clip}[trunk]
    side = 7 * TRUNKS[trunk].patch
    load(trunk, convert(state(trunk)), tmp_path, **plain_args(img_size=side))
    assert 'pos_embed resampled 4x4 -> 7x7 (bicubic, antialias)' in said[0][0]


@pytest.mark.parametrize('method', ['bicubic', 'bicubic-antialias'])
@pytest.mark.parametrize('convert', [registers, lambda own: own])
def test_positions_of_a_file(
    convert: Callable, method: str, tmp_path: Path, said: list[tuple[str, int]]
) -> None:
    """Weights made for 4 x 4 tokens, in a model for 2 x 3."""
    args = plain_args(img_size=(28, 42))
    own = load('registers', convert(state('registers')), tmp_path, pos_resample=method, **args)
    table = state('registers')['pos_embed'].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    antialias = method == 'bicubic-antialias'
    expected = torch.nn.functional.interpolate(table, (2, 3), mode='bicubic', antialias=antialias)
    found = own.model.pos_embed.reshape(1, 2, 3, 32).permute(0, 3, 1, 2)
    assert (found - expected).abs().max() < 1e-6
    ending = '(bicubic, antialias)' if antialias else '(bicubic)'
    assert f'pos_embed resampled 4x4 -> 2x3 {ending}' in said[0][0]


def test_another_patch_is_a_warning(tmp_path: Path, said: list[tuple[str, int]]) -> None:
    args = plain_args(img_size=64, patch_size=16)
    load('dinov2', state('dinov2'), tmp_path, **args)
    [(line, level)] = said
    assert 'PATCH KERNEL resampled 14x14 -> 16x16' in line and level == 30


def test_another_window_is_said(tmp_path: Path, said: list[tuple[str, int]]) -> None:
    args = {**TRUNKS['swin'].config['model_args'], 'window_size': 6}
    load('swin', state('swin'), tmp_path, model_args=args)
    assert '4 relative position tables resampled, the first (49, 2) -> (121, 2)' in said[0][0]


def test_said_through_the_current_logger(tmp_path: Path) -> None:
    logger, stream = MMLogger.get_current_instance(), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        load('dinov2', dinov2(state('dinov2')), tmp_path)
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().count('Trunk weights') == 1


def test_torchscript(tmp_path: Path) -> None:
    """OpenAI's CLIP is published as a program."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'clip.pt'))
    with pytest.raises(WeightsError, match=r'TorchScript program.*torch\.jit\.load'):
        build(REGISTRY, trunk_config('clip', weights=str(tmp_path / 'clip.pt')))
