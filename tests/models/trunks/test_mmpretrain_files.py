"""mmpretrain's configs, its names of architectures, and the checkpoints it saves."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from mmsigma.errors import InvalidSettingError, WeightsError
from mmsigma.models.trunks import mmpretrain_models
from mmsigma.models.trunks.base import Trunk
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.models.trunks.test_mmpretrain import (
    BEIT,
    MMPRETRAIN,
    SWIN,
    UPSTREAM,
    args,
    load,
    save,
    upstream_class,
)
from tests.tiny import TRUNKS, backbone, images, same, state, trunk_config

# --- Configs and names. ---


def write_config(folder: Path, trunk: str, **changes: Any) -> str:
    """An mmpretrain config of a classifier with the tiny backbone, on a base file."""
    tiny = TRUNKS[trunk].config
    given = {
        'type': UPSTREAM[tiny['type']],
        'arch': tiny['arch'],
        **tiny['model_args'],
        'drop_path_rate': 0.3,
        'init_cfg': {'type': 'Pretrained', 'checkpoint': '/nowhere.pth', 'prefix': 'backbone.'},
        'frozen_stages': 1,
        **changes,
    }
    (folder / 'base.py').write_text(f"model = dict(type='ImageClassifier', backbone={given!r})\n")
    path = folder / 'config.py'
    path.write_text("_base_ = './base.py'\nmodel = dict(head=dict(type='LinearClsHead'))\n")
    return str(path)


@pytest.mark.parametrize('trunk', MMPRETRAIN)
def test_built_from_a_config(trunk: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, trunk)
    by_hand = backbone(trunk, 'Frozen')
    own = backbone(trunk, 'Frozen', trunk_options={'arch': config, 'model_args': None})
    assert own.record() == by_hand.record()  # so that checkpoints of one load in the other
    assert same(own(images(trunk)), by_hand(images(trunk)))
    path_too = build(REGISTRY, trunk_config(trunk, arch=Path(config), model_args=None))
    assert path_too.fingerprint == own.trunk.fingerprint
    rates = {getattr(m, 'drop_prob', 0) for m in own.trunk.modules()}
    assert any(rate == pytest.approx(0.3) for rate in rates)


def test_model_args_win_over_the_config(tmp_path: Path) -> None:
    config = write_config(tmp_path, 'mmpretrain')
    own = load('random', 'mmpretrain', arch=config, model_args={'img_size': 112})
    assert own.model.patch_resolution == (8, 8)
    assert own.patch == 14


@pytest.mark.parametrize(('written', 'normed'), [({}, True), ({'final_norm': False}, False)])
def test_final_norm_is_the_configs(written: dict, normed: bool, tmp_path: Path) -> None:
    config = write_config(tmp_path, 'mmpretrain', **written)
    own = load(trunk_config('mmpretrain')['weights'], 'mmpretrain', arch=config, model_args=None)
    assert own.final_norm is normed and hasattr(own.model, 'ln1') is normed
    other = load('random', 'mmpretrain', arch=config, model_args=None, final_norm=not normed)
    assert other.final_norm is not normed


@pytest.mark.parametrize(
    ('content', 'parts'),
    [
        ("model = dict(backbone=dict(type='BEiTViT'))", ['BEiTViT', "type='MMPretrainBEiT'"]),
        ("model = dict(backbone=dict(type='mmpretrain.ViTSAM'))", ["type='MMPretrainSAM'"]),
        ("model = dict(backbone=dict(type='MAEViT'))", ['MAEViT', '`arch`', 'pretraining']),
        ("model = dict(backbone=dict(type='ResNet'))", ['ResNet', 'SwinTransformerV2']),
        ("model = dict(backbone=dict(arch='b'))", ['no model.backbone with a type']),
        ('data = 3', ['no model.backbone with a type']),
        ('model = dict(', ['cannot be read']),
        ("_base_ = './missing.py'", ['cannot be read', 'missing.py']),
        (
            "model = dict(backbone=dict(type='VisionTransformer', arch='x'))",
            ["'x'", 'deit-small'],
        ),
        (
            "model = dict(backbone=dict(type='VisionTransformer', embed_dims=3))",
            ["'embed_dims'", 'VisionTransformer'],
        ),
    ],
    ids=str,
)
def test_configs_that_do_not_fit(content: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / 'config.py'
    path.write_text(content)
    with pytest.raises(InvalidSettingError) as caught:
        build(REGISTRY, {'type': 'MMPretrainViT', 'arch': str(path), 'weights': 'random'})
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_config_that_does_not_exist() -> None:
    with pytest.raises(InvalidSettingError, match=r"'no/config\.py', which does not exist"):
        build(REGISTRY, {'type': 'MMPretrainSwin', 'arch': 'no/config.py', 'weights': 'random'})


@pytest.mark.parametrize('key', ['arch', 'final_norm', 'init_cfg', 'out_indices', 'frozen_stages'])
@pytest.mark.parametrize('trunk', ['mmpretrain', BEIT, 'mmpretrain-sam', SWIN])
def test_what_the_trunk_sets_is_refused(trunk: str, key: str) -> None:
    with pytest.raises(InvalidSettingError, match=f"'{key}', which the trunk sets"):
        load('random', trunk, model_args=args(trunk, **{key: 1}))


def test_beit_without_class_token() -> None:
    with pytest.raises(InvalidSettingError, match='use_rel_pos_bias=False'):
        load('random', BEIT, model_args=args(BEIT, with_cls_token=False))


@pytest.mark.parametrize('trunk', MMPRETRAIN)
def test_names_tell_architectures_apart(trunk: str) -> None:
    arch = TRUNKS[trunk].config['arch']
    heads = arch['num_heads']
    halved = {'num_heads': 1 if isinstance(heads, int) else [1] * len(heads)}
    turned = dict(reversed(arch.items()))
    first, same_arch, other = (
        load('random', trunk, arch=a).name for a in (arch, turned, {**arch, **halved})
    )
    assert first == same_arch != other
    assert first.startswith(f'mmpretrain/{upstream_class(trunk).__name__}-custom-')


def test_names_of_named_architectures() -> None:
    own = build(REGISTRY, {'type': 'MMPretrainViT', 'arch': 'deit-tiny', 'weights': 'random'})
    assert own.name == 'mmpretrain/VisionTransformer-deit-tiny'


# --- Checkpoints. ---


def reached(trunk: Trunk, name: str) -> bool:
    tensors = trunk.model.state_dict()
    return all(torch.equal(tensors[key], state(name)[key]) for key in tensors)


@pytest.mark.parametrize('trunk', MMPRETRAIN)
def test_checkpoints_of_classifiers(trunk: str, tmp_path: Path) -> None:
    """As mmpretrain saves them: prefixed, with a head, with tables that follow from the grid."""
    tiny = TRUNKS[trunk].config
    more = {'out_indices': [1]} if 'depths' in tiny['arch'] else {}
    model = upstream_class(trunk)(tiny['arch'], **more, **tiny['model_args'])
    tensors = {**model.state_dict(), **state(trunk)}
    tensors |= {k: torch.zeros(3) for k in ('ln2.weight', 'channel_reduction.0.weight')}
    keep = {
        'ln2.': 'swin' not in trunk and 'sam' not in trunk,
        'channel_reduction.': 'sam' in trunk,
    }
    dropped = tuple(prefix for prefix, kept in keep.items() if not kept)
    tensors = {k: v for k, v in tensors.items() if not k.startswith(dropped)}
    if more:  # a norm of the last stage only
        tensors = {k: v for k, v in tensors.items() if k in state(trunk) or k[:4] != 'norm'}
    path = save(tmp_path / 'w.pth', tensors, 'backbone.')
    everything = torch.load(path, weights_only=True)['state_dict']
    everything['head.layers.head.weight'] = torch.zeros(5, 32)
    own = load(save(tmp_path / 'w.pth', everything), trunk)
    assert own.loaded and reached(own, trunk)
    assert own.fingerprint == load(trunk_config(trunk)['weights'], trunk).fingerprint


@pytest.mark.parametrize('trunk', [t for t in MMPRETRAIN if len(TRUNKS[t].norms) > 1])
def test_fingerprint_does_not_depend_on_the_norm(trunk: str) -> None:
    path = trunk_config(trunk)['weights']
    normed, bare = (load(path, trunk, final_norm=final_norm) for final_norm in (True, False))
    assert normed.fingerprint == bare.fingerprint
    lost = {k for k, _ in normed.named_parameters()} - {k for k, _ in bare.named_parameters()}
    assert {k.split('.')[1][:3] for k in lost} <= {'ln1', 'nor'} and len(lost) == 2


@pytest.mark.parametrize('trunk', [BEIT, SWIN])
def test_a_file_without_norm(trunk: str, tmp_path: Path) -> None:
    tensors = {k: v for k, v in state(trunk).items() if not k.startswith(('ln1.', 'norm1.'))}
    path = save(tmp_path / 'w.pth', tensors)
    assert load(path, trunk, final_norm=False).loaded
    with pytest.raises(WeightsError, match=r'2 missing keys \((ln1|norm1)\.bias'):
        load(path, trunk, final_norm=True)


def test_beit_pretraining_shares_one_table(tmp_path: Path) -> None:
    tensors = dict(state(BEIT))
    tables = [tensors.pop(f'layers.{i}.attn.relative_position_bias_table') for i in range(2)]
    tensors['rel_pos_bias.relative_position_bias_table'] = tables[0]
    tensors['rel_pos_bias.relative_position_index'] = torch.zeros(17, 17, dtype=torch.long)
    tensors['mask_token'] = torch.zeros(1, 1, 32)
    own = load(save(tmp_path / 'w.pth', tensors, 'backbone.'), BEIT)
    for layer in own.model.layers:
        assert torch.equal(layer.attn.relative_position_bias_table, tables[0])


def test_old_swin_checkpoints(tmp_path: Path) -> None:
    tensors = {
        k.replace('norm1.', 'norm.') if k[:5] == 'norm1' else k: v for k, v in state(SWIN).items()
    }
    tensors['stages.0.blocks.1.attn.attn_mask'] = torch.zeros(4, 9, 9)
    assert reached(load(save(tmp_path / 'w.pth', tensors), SWIN), SWIN)


@pytest.mark.parametrize(
    ('trunk', 'change', 'keys'),
    [
        ('mmpretrain', {'img_size': 84}, ['pos_embed']),
        ('mmpretrain-eva02', {'img_size': (84, 112)}, ['pos_embed']),
        ('mmpretrain-eva', {'img_size': 96}, ['pos_embed']),
        ('mmpretrain-sam', {'img_size': 80}, ['pos_embed', 'layers.1.attn.rel_pos_h']),
        ('mmpretrain-sam', {'window_size': 5}, ['layers.0.attn.rel_pos_w']),
        (BEIT, {'img_size': (80, 96)}, ['layers.0.attn.relative_position_bias_table']),
        (SWIN, {'window_size': 5}, ['stages.0.blocks.0.attn.w_msa.relative_position_bias_table']),
        ('mmpretrain-swin-4', {'img_size': 32}, ['absolute_pos_embed']),
    ],
    ids=str,
)
def test_what_is_resized_is_told(
    trunk: str, change: dict, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def listen(message: str, logger: object = None, level: int = logging.INFO) -> None:
        if level == logging.WARNING:
            told.append(message)

    monkeypatch.setattr(mmpretrain_models, 'print_log', listen)
    path = trunk_config(trunk)['weights']
    load(path, trunk)
    assert told == []
    own = load(path, trunk, model_args=args(trunk, **change))
    assert len(told) == 1 and path in told[0] and keys[0] in told[0] and 'img_size' in told[0]
    shapes = {k: v.shape for k, v in own.model.state_dict().items()}
    assert all(shapes[key] != state(trunk)[key].shape for key in keys)
    unchanged = [k for k in shapes if shapes[k] == state(trunk)[k].shape]
    assert all(torch.equal(own.model.state_dict()[k], state(trunk)[k]) for k in unchanged)


@pytest.mark.parametrize('trunk', ['mmpretrain', 'mmpretrain-eva02', BEIT, 'mmpretrain-sam', SWIN])
def test_there_is_no_hub(trunk: str) -> None:
    with pytest.raises(WeightsError, match=f"{TRUNKS[trunk].config['type']} has no 'hub' weights"):
        load('hub', trunk)
