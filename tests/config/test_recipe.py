"""Leaf configs: written from their parts, and with other parts in their place."""

import argparse
import os
from pathlib import Path

import pytest

from mmsigma.config import combinations, recipe
from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError, UnknownNameError
from tests.fixtures import ROOT

CONFIGS = ROOT / 'configs'
BASE = CONFIGS / '_base_'
LEAVES = sorted(
    path.relative_to(CONFIGS).with_suffix('').as_posix()
    for path in CONFIGS.glob('*/*.py')
    if path.parent.name not in ('_base_', 'grids')
)
# A leaf, other parts, and the leaf that has them.
CASES = [
    ('camvid/sigma_dinov2-s_fcn_camvid-448x336', dict(tuner='lora'),
     'camvid/lora_dinov2-s_fcn_camvid-448x336'),
    ('camvid/frozen_dinov2-s_upernet_camvid-448x336', dict(tuner='sigma', trunk='swinv2-b'),
     'camvid/sigma_swinv2-b_upernet_camvid-448x336'),
    ('camvid/full_dinov2-s_fcn_camvid-448x336',
     dict(tuner='sigma', trunk='sam2-hiera-t', head='mask2former-semantic'),
     'camvid/sigma_sam2-hiera-t_mask2former-semantic_camvid-448x336'),
    ('ade20k/full_dinov2-b_mask2former-semantic_ade20k-512x512-160k',
     dict(tuner='sigma', trunk='sam2-hiera-l', head='upernet'),
     'ade20k/sigma_sam2-hiera-l_upernet_ade20k-512x512-160k'),
    ('ade20k/sigma_swin-l_upernet_ade20k-512x512-160k', dict(trunk='siglip2-b'),
     'ade20k/sigma_siglip2-b_upernet_ade20k-512x512-160k'),
    ('nyu/full_dinov2-b_dpt-depth_nyu-480x480-40k', dict(tuner='sigma', trunk='swin-b'),
     'nyu/sigma_swin-b_dpt-depth_nyu-480x480-40k'),
    ('voc/mona_swin-b_retinanet_voc-1x',
     dict(tuner='full', trunk='dinov2-b', head='faster-rcnn'),
     'voc/full_dinov2-b_faster-rcnn_voc-1x'),
    ('coco/sigma_dinov2-b_mask-rcnn_coco-1x', dict(trunk='swin-b'),
     'coco/sigma_swin-b_mask-rcnn_coco-1x'),
    # Full fine-tuning of detectors has rates that decay.
    ('coco/sigma_dinov2-b_mask-rcnn_coco-1x', dict(tuner='full'),
     'coco/full_dinov2-b_mask-rcnn_coco-1x'),
    ('coco_slice/full_dinov2-s_retinanet_coco-slice', dict(tuner='frozen'),
     'coco_slice/frozen_dinov2-s_retinanet_coco-slice'),
    # Other heads read other data: boxes alone, or panoptic pictures.
    ('coco/sigma_dinov2-b_mask-rcnn_coco-1x', dict(head='dino'),
     'coco/sigma_dinov2-b_dino_coco-1x'),
    ('coco/sigma_dinov2-b_dino_coco-1x', dict(head='mask2former-panoptic'),
     'coco/sigma_dinov2-b_mask2former-panoptic_coco-1x'),
    ('coco_slice/full_dinov2-s_mask2former-panoptic_coco-slice',
     dict(tuner='sigma', trunk='sam2-hiera-t', head='retinanet'),
     'coco_slice/sigma_sam2-hiera-t_retinanet_coco-slice'),
    ('coco_slice/sigma_swin-t_retinanet_coco-slice',
     dict(tuner='frozen', trunk='dinov2-s', head='cascade-mask-rcnn'),
     'coco_slice/frozen_dinov2-s_cascade-mask-rcnn_coco-slice'),
]  # fmt: skip


def path_of(name):
    return CONFIGS / f'{name}.py'


def arguments(config, **parts):
    """What the launchers' command line becomes."""
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    launch.add_arguments(parser)
    launch.add_parts(parser)
    words = [word for key, value in parts.items() for word in (f'--{key}', str(value))]
    return parser.parse_args([str(config), *words])


def load(config, **parts):
    return launch.load_config(arguments(config, **parts))


@pytest.mark.parametrize('name', LEAVES)
def test_a_leaf_is_what_follows_from_its_parts(name):
    leaf = recipe.read(path_of(name))
    assert leaf is not None and not leaf.extra
    assert recipe.text(leaf, path_of(name).parent) == path_of(name).read_text()


@pytest.mark.parametrize(('name', 'parts', 'other'), CASES, ids=lambda v: str(v).split('/')[-1])
def test_other_parts_give_the_leaf_of_these_parts(name, parts, other):
    config, expected = load(path_of(name), **parts), load(path_of(other))
    assert config._cfg_dict.to_dict() == expected._cfg_dict.to_dict()
    assert Path(config.filename) == Path(expected.filename)
    assert config._cfg_dict.to_dict() != load(path_of(name))._cfg_dict.to_dict()


def test_overrides_follow_the_parts():
    args = arguments(path_of(CASES[0][0]), tuner='mona')
    args.cfg_options = {'model.backbone.tuner.bottleneck': 16}
    config = launch.load_config(args)
    assert config.model.backbone.tuner.to_dict() == {'type': 'Mona', 'bottleneck': 16}
    assert config.work_dir == 'work_dirs/mona_dinov2-s_fcn_camvid-448x336'


@pytest.mark.parametrize('part', launch.PARTS)
def test_an_own_file(part, tmp_path):
    own = {'trunk': 'dinov2-s', 'tuner': 'sigma', 'head': 'fcn'}[part]
    copy = tmp_path / 'mine.py'
    copy.write_text(f'_base_ = {str(BASE / f"{part}s/{own}.py")!r}\n')
    leaf = path_of('camvid/sigma_dinov2-s_fcn_camvid-448x336')
    config, expected = load(leaf, **{part: copy}), load(leaf)
    assert 'mine' in Path(config.filename).stem
    config.work_dir = expected.work_dir
    assert config._cfg_dict.to_dict() == expected._cfg_dict.to_dict()
    other = tmp_path / 'other.py'
    other.write_text('x = 1\n')
    with pytest.raises(UnknownNameError, match=f'a file that has `{recipe.KINDS[f"{part}s"]}`'):
        load(leaf, **{part: other})


def test_a_config_on_top_of_a_leaf(tmp_path):
    """Its settings stay, and override those of the other parts."""
    name = 'ade20k/sigma_dinov2-b_upernet_ade20k-512x512-160k'
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = [\n    {os.path.relpath(path_of(name), tmp_path)!r},\n]\n'
        "here = '{{ fileDirname }}'\n"
        'train_cfg = dict(max_iters=7)\n'
    )
    config = load(path, trunk='swin-b', tuner='frozen')
    assert config.train_cfg.max_iters == 7
    assert config.here == str(tmp_path)
    assert config.model.backbone.trunk.type == 'TimmSwin'
    assert config.model.backbone.tuner.type == 'Frozen'
    assert config.model.neck.in_channels == config.widths == [128, 256, 512, 1024]
    assert Path(config.filename) == tmp_path / 'mine_swin-b_frozen.py'


def test_what_a_leaf_has_behind_its_model_stays(tmp_path):
    name = 'camvid/full_dinov2-s_upernet_camvid-448x336'
    text = path_of(name).read_text().replace("'../_base_/", f"'{BASE.as_posix()}/")
    text = text.replace(
        "schedules/adamw_4k.py',",
        f"schedules/adamw_4k.py',\n    '{BASE}/schedules/layer_decay.py',",
    )
    path = tmp_path / f'{path_of(name).name}'
    path.write_text(text + 'optim_wrapper = _base_.layer_decay\n')
    config = load(path, trunk='swin-t')
    assert config.optim_wrapper.constructor == 'mmsigma.LayerDecayOptimWrapperConstructor'
    assert config.model.neck.in_strides == [4, 8, 16, 32]


# --- Bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('part', 'given', 'near'),
    [
        ('trunk', 'dinov2b', 'dinov2-b'),
        ('trunk', 'swin_b', 'swin-b'),
        ('tuner', 'sigme', 'sigma'),
        ('tuner', 'vpt-deeper', 'vpt-deep'),
        ('head', 'uper-net', 'upernet'),
    ],
)
def test_names_that_do_not_exist(part, given, near):
    with pytest.raises(UnknownNameError) as caught:
        load(path_of(CASES[0][0]), **{part: given})
    assert f'Unknown {part} {given!r}. Did you mean' in str(caught.value)
    assert repr(near) in str(caught.value)
    assert 'give its path' in str(caught.value)


def test_a_head_for_another_task():
    with pytest.raises(InvalidSettingError) as caught:
        load(path_of('ade20k/sigma_dinov2-b_upernet_ade20k-512x512-160k'), head='mask-rcnn')
    assert 'mask-rcnn is for instance, the data ade20k_512x512 for semantic' in str(caught.value)
    assert 'upernet' in str(caught.value)


def test_a_head_for_masks_on_boxes():
    with pytest.raises(InvalidSettingError, match='the data voc_detection for detection'):
        load(path_of('voc/sigma_dinov2-b_faster-rcnn_voc-1x'), head='mask2former')


def test_configs_that_compose_nothing(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('model = dict()\n')
    with pytest.raises(InvalidSettingError, match='whose one _base_ is a leaf'):
        load(path, tuner='lora')


def test_leaves_with_a_model_of_their_own(tmp_path):
    name = 'camvid/sigma_dinov2-s_fcn_camvid-448x336'
    text = path_of(name).read_text().replace("'../_base_/", f"'{BASE.as_posix()}/")
    path = tmp_path / 'mine.py'
    path.write_text(text.replace('decode_head=dict(', 'decode_head=dict(dropout_ratio=0.5, '))
    assert load(path).model.decode_head.dropout_ratio == 0.5
    with pytest.raises(InvalidSettingError, match='has a model of its own'):
        load(path, tuner='lora')


def test_leaves_with_rates_of_their_own(tmp_path):
    name = 'coco/full_dinov2-b_mask-rcnn_coco-1x'
    text = path_of(name).read_text().replace("'../_base_/", f"'{BASE.as_posix()}/")
    path = tmp_path / 'mine.py'
    path.write_text(text.replace('_base_.full_decay_rate', '0.8'))
    assert load(path).optim_wrapper.paramwise_cfg == {'decay_rate': 0.8}
    with pytest.raises(InvalidSettingError, match='has rates of its own') as caught:
        load(path, tuner='sigma')
    assert 'decay_rate=_base_.full_decay_rate' in str(caught.value)


# --- All that there are ---------------------------------------------------------------------


def test_every_leaf_is_a_combination():
    for name in LEAVES:
        tuner, trunk, head, benchmark = Path(name).name.split('_')
        found = list(combinations.names(BASE, benchmark, tuner, trunk, head))
        assert found == [(benchmark, tuner, trunk, head)], name
        path, leaf = combinations.compose(BASE, benchmark, tuner, trunk, head)
        assert path == path_of(name)
        assert dict(leaf.bases) == dict(recipe.read(path).bases)


def test_patterns():
    found = set(combinations.names(BASE, 'ade20k-*-160k', 'sigma', 'dinov[23]-b', 'upernet'))
    sizes = ('512x512', '640x640')
    assert found == {
        (f'ade20k-{size}-160k', 'sigma', trunk, 'upernet')
        for size in sizes
        for trunk in ('dinov2-b', 'dinov3-b')
    }
    assert not list(combinations.names(BASE, 'camvid-448x336', 'vpt-deep', 'sam-b', 'fcn'))
    with pytest.raises(UnknownNameError, match="Did you mean 'dinov2-b'"):
        list(combinations.names(BASE, trunk='dinov2_b'))


def test_combinations_of_one_trunk_and_one_tuner_compose():
    """Every benchmark with every head that is listed for it, on both kinds of trunks."""
    count = 0
    for trunk in ('dinov2-b', 'swin-b'):
        for benchmark, tuner, _, head in combinations.names(BASE, tuner='sigma', trunk=trunk):
            path, leaf = combinations.compose(BASE, benchmark, tuner, trunk, head)
            assert path.stem == f'{tuner}_{trunk}_{head}_{benchmark}'
            compile(recipe.text(leaf, path.parent), path, 'exec')
            count += 1
    assert count > 250


def test_trunks_that_cannot_carry_a_tuner() -> None:
    """Pairs of base files; tests/models/tuners/test_refusals.py has the tiny ones of every kind."""
    refused = {
        'vpt-deep': {'sam-b', 'beit-b', 'hiera-t', 'mmpretrain-eva02-b', 'dinov3-convnext-t'},
        'ssf': {'beit-b', 'eva02-s', 'swinv2-b'},
        'lora': {'beit-b', 'eva02-s', 'eva02-b', 'swinv2-b', 'dinov3-convnext-t'},
        'convpass': {'hiera-t', 'swinv2-b', 'dinov3-convnext-t'},
        'adapter': {'dinov3-convnext-t'},
        'sigma': set(),
    }
    for tuner, trunks in refused.items():
        for trunk in ('dinov2-s', *set().union(*refused.values())):
            assert combinations.refuses(BASE, trunk, tuner) == (trunk in trunks), (tuner, trunk)
