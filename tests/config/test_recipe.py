"""Recipes: written from their parts, and with other parts in their place."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsigma.config import combinations, connect, rates, recipe
from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError, UnknownNameError
from tests.fixtures import ROOT

CONFIGS = ROOT / 'configs'
BASE = CONFIGS / '_base_'
RECIPES = sorted(
    path.relative_to(CONFIGS).with_suffix('').as_posix()
    for path in CONFIGS.glob('*/*.py')
    if path.parent.name not in ('_base_', 'grids')
)
# A recipe, other parts, and the recipe that has them.
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


def own(tmp_path, name, *changes):
    """A copy of a recipe in another folder, with other lines in its text."""
    text = path_of(name).read_text().replace("'../_base_/", f"'{BASE.as_posix()}/")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / path_of(name).name
    path.write_text(text)
    return path


def test_configs_import_it_without_the_frameworks():
    code = 'import sys; import mmsigma.config; assert not {"torch", "mmengine"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize(('name', 'parts', 'other'), CASES, ids=lambda v: str(v).split('/')[-1])
def test_other_parts_give_the_recipe_of_these_parts(name, parts, other):
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
    name = {'trunk': 'dinov2-s', 'tuner': 'sigma', 'head': 'fcn'}[part]
    copy = tmp_path / 'mine.py'
    copy.write_text(f'_base_ = {str(BASE / f"{part}s/{name}.py")!r}\n')
    path = path_of('camvid/sigma_dinov2-s_fcn_camvid-448x336')
    config, expected = load(path, **{part: copy}), load(path)
    assert 'mine' in Path(config.filename).stem
    config.work_dir = expected.work_dir
    assert config._cfg_dict.to_dict() == expected._cfg_dict.to_dict()
    other = tmp_path / 'other.py'
    other.write_text('x = 1\n')
    with pytest.raises(UnknownNameError, match=f'a file that has `{recipe.KINDS[f"{part}s"]}`'):
        load(path, **{part: other})


def test_a_config_on_top_of_a_recipe(tmp_path):
    """Its settings stay, and override those of the other parts."""
    name = 'ade20k/sigma_dinov2-b_upernet_ade20k-512x512-160k'
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = [\n    {os.path.relpath(path_of(name), tmp_path)!r},\n]\n'
        "here = '{{ fileDirname }}/{{fileBasenameNoExtension}}'\n"
        "train_cfg = dict(max_iters=7)\nneck = dict(_delete_=True, type='mine')\n"
        'model = dict(neck=neck, test_cfg=dict(mode="whole"), auxiliary_head=neck)\n'
    )
    config = load(path, trunk='swin-b', tuner='frozen')
    assert config.train_cfg.max_iters == 7
    assert config.here == f'{tmp_path}/mine'
    assert config.model.backbone.trunk.type == 'TimmSwin'
    assert config.model.backbone.tuner.type == 'Frozen'
    assert config.widths == [128, 256, 512, 1024]
    assert config.model.neck.to_dict() == {'type': 'mine'}
    assert config.model.test_cfg.to_dict() == {**config.inference.to_dict(), 'mode': 'whole'}
    assert Path(config.filename) == tmp_path / 'mine_swin-b_frozen.py'


def test_what_mmengine_fills_in(tmp_path, monkeypatch):
    """The same as without other parts: values of bases and of the environment."""
    monkeypatch.setenv('SOME_FOLDER', '/some')
    path = own(tmp_path, CASES[0][0])
    path.write_text(
        f'{path.read_text()}classes = {{{{ _base_.num_classes }}}}\n'
        "places = ['{{$SOME_FOLDER:/other}}/a', '{{$NO_FOLDER:/other}}/b']\n"
    )
    config, expected = load(path, tuner='sigma'), load(path)
    assert config.classes == expected.classes == 11
    assert config.places == expected.places == ['/some/a', '/other/b']
    assert config._cfg_dict.to_dict() == expected._cfg_dict.to_dict()


def test_nothing_depends_on_how_a_recipe_is_written(tmp_path):
    name, parts, other = CASES[0]
    path = own(
        tmp_path,
        name,
        ('_base_ = [\n', '# A comment.\n_base_ = ['),
        ('from mmsigma.config import connect\n', 'import mmsigma.config as c\n'),
        ('model = connect(_base_)', 'model = dict(\n    **c.connect(_base_),\n)'),
    )
    assert load(path, **parts)._cfg_dict.to_dict() == load(path_of(other))._cfg_dict.to_dict()


def test_what_a_recipe_says_of_its_own_stays(tmp_path):
    path = own(
        tmp_path,
        'camvid/full_dinov2-s_upernet_camvid-448x336',
        ("adamw_4k.py',", f"adamw_4k.py',\n    '{BASE}/schedules/layer_decay.py',"),
        (
            'model = connect(_base_)\n',
            "model = connect(_base_)\nmodel['decode_head']['dropout_ratio'] = 0.5\n"
            'optim_wrapper = _base_.layer_decay\n',
        ),
    )
    config = load(path, trunk='swin-t')
    assert config.optim_wrapper.constructor == 'mmsigma.LayerDecayOptimWrapperConstructor'
    assert config.model.neck.in_strides == [4, 8, 16, 32]
    assert config.model.decode_head.dropout_ratio == 0.5


def test_only_what_trains_whole_has_rates_that_decay():
    assert rates({'tuner': {'type': 'SIGMA'}, 'full_decay_rate': 0.7}) == {}
    assert rates({'tuner': {'type': 'Full'}}) == {}
    expected = {'paramwise_cfg': {'decay_rate': 0.7}}
    assert rates({'tuner': {'type': 'mmsigma.Full'}, 'full_decay_rate': 0.7}) == expected


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
    with pytest.raises(InvalidSettingError, match=r'mine\.py does not connect a trunk'):
        load(path, tuner='lora')


def test_recipes_with_a_model_of_their_own(tmp_path):
    path = own(
        tmp_path,
        CASES[0][0],
        ('model = connect(_base_)', 'model = dict(test_cfg=_base_.crop_size)'),
    )
    with pytest.raises(InvalidSettingError, match=r'write.*\n\n.*\n\nmodel = connect\(_base_\)'):
        load(path, tuner='lora')


def test_a_missing_part_is_named(tmp_path):
    path = own(tmp_path, CASES[0][0], (f"    '{BASE.as_posix()}/tuners/sigma.py',\n", ''))
    with pytest.raises(InvalidSettingError, match='There is no `tuner` to connect'):
        load(path)
    with pytest.raises(InvalidSettingError, match='does not connect a trunk, a tuner'):
        load(path, trunk='swin-b')


def test_a_name_in_two_bases(tmp_path):
    mine = tmp_path / 'mine.py'
    mine.write_text("tuner = dict(type='SIGMA')\nwidths = [1]\n")
    with pytest.raises(InvalidSettingError, match=r'mine\.py has widths, and so has a base file'):
        load(path_of(CASES[0][0]), tuner=mine)


def bases(*names):
    """What some base files say together."""
    found = {}
    for name in names:
        found |= Config.fromfile(BASE / f'{name}.py').to_dict()
    return found


@pytest.mark.parametrize(
    ('head', 'parts'),
    [
        ('faster-rcnn', [('roi_head', 'bbox_head')]),
        ('mask-rcnn', [('roi_head', 'bbox_head'), ('roi_head', 'mask_head')]),
        ('retinanet', [('bbox_head',)]),
    ],
)
@pytest.mark.parametrize('trunk', ['dinov2-b', 'swin-b'])
def test_detectors_count_the_classes_of_the_data(trunk, head, parts):
    given = bases(f'trunks/{trunk}', 'tuners/sigma', f'heads/{head}')
    for count in (20, 80):
        model = connect({**given, 'num_classes': count})
        for names in parts:
            part = model
            for name in names:
                part = part.get(name, {})
            assert part.get('num_classes', 80) == count


@pytest.mark.parametrize(
    ('head', 'own'), [('cascade-mask-rcnn', 80), ('mask2former-panoptic', 133)]
)
def test_heads_whose_classes_cannot_be_changed(head, own):
    given = bases('trunks/dinov2-b', 'tuners/sigma', f'heads/{head}')
    with pytest.raises(InvalidSettingError, match=f'is made for {own} classes, the data has 20'):
        connect({**given, 'num_classes': 20})


# --- All that there are ---------------------------------------------------------------------


def test_every_recipe_is_a_combination():
    for name in RECIPES:
        tuner, trunk, head, benchmark = Path(name).name.split('_')
        found = list(combinations.names(BASE, benchmark, tuner, trunk, head))
        assert found == [(benchmark, tuner, trunk, head)], name
        path, bases = combinations.compose(BASE, benchmark, tuner, trunk, head)
        assert path == path_of(name)
        assert path.read_text() == recipe.text(bases, path.parent)


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
            path, _ = combinations.compose(BASE, benchmark, tuner, trunk, head)
            assert path.stem == f'{tuner}_{trunk}_{head}_{benchmark}'
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
