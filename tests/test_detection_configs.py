"""Every config of mmdet: its form, and its parameters at true size."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.modules.conv import _ConvNd

from mmsigma.apis import params
from tests.fixtures import HOOKS, ROOT
from tests.sample import sampled

pytest.importorskip('mmdet')

# Parameters (adapters, neck, head) of each recipe, in its own trunk.
RECIPES = {
    'coco/frozen_dinov2-b_mask-rcnn_coco-1x': (0, 5_560_000, 17_543_920),
    'coco/frozen_dinov2-b_mask-rcnn_coco-3x': (0, 5_560_000, 17_543_920),
    'coco/frozen_dinov2-b_mask-rcnn_coco-short': (0, 5_560_000, 17_543_920),
    'coco/full_dinov2-b_mask-rcnn_coco-1x': (0, 5_560_000, 17_543_920),
    'coco/full_dinov2-b_mask-rcnn_coco-3x': (0, 5_560_000, 17_543_920),
    'coco/full_dinov2-b_mask-rcnn_coco-short': (0, 5_560_000, 17_543_920),
    'coco/lora_dinov2-b_mask-rcnn_coco-1x': (884_736, 5_560_000, 17_543_920),
    'coco/mona_dinov2-b_mask-rcnn_coco-1x': (2_684_928, 5_560_000, 17_543_920),
    'coco/sigma_dinov2-b_cascade-mask-rcnn_coco-1x': (1_525_248, 5_560_000, 50_472_190),
    'coco/sigma_dinov2-b_dino_coco-1x': (1_525_248, 4_231_552, 18_687_308),
    'coco/sigma_dinov2-b_faster-rcnn_coco-1x': (1_525_248, 5_560_000, 14_900_640),
    'coco/sigma_dinov2-b_mask-rcnn_coco-1x': (1_525_248, 5_560_000, 17_543_920),
    'coco/sigma_dinov2-b_mask-rcnn_coco-3x': (1_525_248, 5_560_000, 17_543_920),
    'coco/sigma_dinov2-b_mask-rcnn_coco-short': (1_525_248, 5_560_000, 17_543_920),
    'coco/sigma_dinov2-b_mask2former-panoptic_coco-1x': (1_525_248, 5_560_000, 19_808_070),
    'coco/sigma_dinov2-b_mask2former_coco-1x': (1_525_248, 5_560_000, 19_794_449),
    'coco/sigma_dinov2-b_retinanet_coco-1x': (1_525_248, 5_019_008, 6_463_220),
    'coco/sigma_sam2-hiera-b-plus_mask-rcnn_coco-1x': (1_970_688, 2_791_424, 17_543_920),
    'coco/sigma_swin-b_mask-rcnn_coco-1x': (2_138_368, 2_852_864, 17_543_920),
    'coco_slice/frozen_dinov2-s_cascade-mask-rcnn_coco-slice': (0, 3_298_144, 50_472_190),
    'coco_slice/frozen_dinov2-s_dino_coco-slice': (0, 3_002_560, 18_687_308),
    'coco_slice/frozen_dinov2-s_faster-rcnn_coco-slice': (0, 3_298_144, 14_900_640),
    'coco_slice/frozen_dinov2-s_mask-rcnn-small_coco-slice-overfit': (0, 861_888, 4_204_686),
    'coco_slice/frozen_dinov2-s_mask-rcnn-small_coco-slice': (0, 861_888, 4_204_686),
    'coco_slice/frozen_dinov2-s_mask-rcnn_coco-slice': (0, 3_298_144, 17_543_920),
    'coco_slice/frozen_dinov2-s_mask2former-panoptic_coco-slice': (0, 3_298_144, 19_808_070),
    'coco_slice/frozen_dinov2-s_mask2former-panoptic-small_coco-slice-overfit': (
        0,
        3_002_560,
        7_406_790,
    ),
    'coco_slice/frozen_dinov2-s_mask2former_coco-slice': (0, 3_298_144, 19_794_449),
    'coco_slice/frozen_dinov2-s_retinanet_coco-slice': (0, 3_691_712, 6_463_220),
    'coco_slice/frozen_dinov2-s_retinanet-small_coco-slice-overfit': (0, 1_256_128, 1_462_004),
    'coco_slice/full_dinov2-s_cascade-mask-rcnn_coco-slice': (0, 3_298_144, 50_472_190),
    'coco_slice/full_dinov2-s_dino_coco-slice': (0, 3_002_560, 18_687_308),
    'coco_slice/full_dinov2-s_faster-rcnn_coco-slice': (0, 3_298_144, 14_900_640),
    'coco_slice/full_dinov2-s_mask-rcnn-small_coco-slice-overfit': (0, 861_888, 4_204_686),
    'coco_slice/full_dinov2-s_mask-rcnn-small_coco-slice': (0, 861_888, 4_204_686),
    'coco_slice/full_dinov2-s_mask-rcnn_coco-slice': (0, 3_298_144, 17_543_920),
    'coco_slice/full_dinov2-s_mask2former-panoptic_coco-slice': (0, 3_298_144, 19_808_070),
    'coco_slice/full_dinov2-s_mask2former_coco-slice': (0, 3_298_144, 19_794_449),
    'coco_slice/full_dinov2-s_retinanet_coco-slice': (0, 3_691_712, 6_463_220),
    'coco_slice/sigma_dinov2-s_cascade-mask-rcnn_coco-slice': (921_600, 3_298_144, 50_472_190),
    'coco_slice/sigma_dinov2-s_dino_coco-slice': (921_600, 3_002_560, 18_687_308),
    'coco_slice/sigma_dinov2-s_faster-rcnn_coco-slice': (921_600, 3_298_144, 14_900_640),
    'coco_slice/sigma_dinov2-s_mask-rcnn-small_coco-slice-overfit': (921_600, 861_888, 4_204_686),
    'coco_slice/sigma_dinov2-s_mask-rcnn-small_coco-slice': (921_600, 861_888, 4_204_686),
    'coco_slice/sigma_dinov2-s_mask-rcnn_coco-slice': (921_600, 3_298_144, 17_543_920),
    'coco_slice/sigma_dinov2-s_mask2former-panoptic_coco-slice': (921_600, 3_298_144, 19_808_070),
    'coco_slice/sigma_dinov2-s_mask2former-panoptic-small_coco-slice-overfit': (
        921_600,
        3_002_560,
        7_406_790,
    ),
    'coco_slice/sigma_dinov2-s_mask2former_coco-slice': (921_600, 3_298_144, 19_794_449),
    'coco_slice/sigma_dinov2-s_retinanet_coco-slice': (921_600, 3_691_712, 6_463_220),
    'coco_slice/sigma_dinov2-s_retinanet-small_coco-slice-overfit': (921_600, 1_256_128, 1_462_004),
    'coco_slice/sigma_sam2-hiera-t_cascade-mask-rcnn_coco-slice': (897_312, 2_729_984, 50_472_190),
    'coco_slice/sigma_sam2-hiera-t_dino_coco-slice': (897_312, 2_115_584, 18_687_308),
    'coco_slice/sigma_sam2-hiera-t_faster-rcnn_coco-slice': (897_312, 2_729_984, 14_900_640),
    'coco_slice/sigma_sam2-hiera-t_mask-rcnn_coco-slice': (897_312, 2_729_984, 17_543_920),
    'coco_slice/sigma_sam2-hiera-t_mask2former-panoptic_coco-slice': (897_312, 0, 19_914_566),
    'coco_slice/sigma_sam2-hiera-t_mask2former_coco-slice': (897_312, 0, 19_900_945),
    'coco_slice/sigma_sam2-hiera-t_retinanet_coco-slice': (897_312, 4_474_880, 6_463_220),
    'coco_slice/sigma_swin-t_cascade-mask-rcnn_coco-slice': (859_584, 2_729_984, 50_472_190),
    'coco_slice/sigma_swin-t_dino_coco-slice': (859_584, 2_115_584, 18_687_308),
    'coco_slice/sigma_swin-t_faster-rcnn_coco-slice': (859_584, 2_729_984, 14_900_640),
    'coco_slice/sigma_swin-t_mask-rcnn_coco-slice': (859_584, 2_729_984, 17_543_920),
    'coco_slice/sigma_swin-t_mask2former-panoptic_coco-slice': (859_584, 0, 19_914_566),
    'coco_slice/sigma_swin-t_mask2former_coco-slice': (859_584, 0, 19_900_945),
    'coco_slice/sigma_swin-t_retinanet_coco-slice': (859_584, 4_474_880, 6_463_220),
}
BOXES = ('retinanet', 'retinanet-small', 'faster-rcnn', 'dino')


def parse(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


def files():
    return sorted(
        path.relative_to(ROOT / 'configs').with_suffix('').as_posix()
        for folder in ('coco', 'coco_slice')
        for path in (ROOT / 'configs' / folder).glob('*.py')
    )


def test_every_recipe_is_in_the_table():
    assert files() == sorted(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_data_and_schedule_fit_the_name(name):
    text = (ROOT / f'configs/{name}.py').read_text()
    _, _, head, dataset = name.split('/')[-1].split('_')
    # The data that the head can read, of the dataset that the file is named after.
    task = 'panoptic' if 'panoptic' in head else 'detection' if head in BOXES else 'instance'
    slice_part, _, schedule = dataset.removeprefix('coco').removeprefix('-').partition('-')
    if slice_part == 'slice':
        data = 'coco_slice_overfit' if schedule else 'coco_slice'
        data += '' if schedule and task == 'instance' else f'_{task}'
        schedule = f'adamw_coco_{schedule or "slice"}'
    else:
        data, schedule = f'coco_{task}', f'adamw_coco_{slice_part}'
    assert f"'../_base_/datasets/{data}.py'" in text
    assert f"'../_base_/schedules/{schedule}.py'" in text


@pytest.mark.parametrize('name', RECIPES)
def test_facts_that_are_stated_in_two_places(name):
    config = parse(name)
    model = config.model
    for key in ('mean', 'std'):
        assert model.data_preprocessor[key] == config.normalisation[key]
    assert model.data_preprocessor.bgr_to_rgb
    plain = len(set(config.strides)) == 1
    outputs = len(model.backbone.out_indices)
    read = model.neck if model.neck else model.panoptic_head
    assert read.in_channels == config.widths[-outputs:]
    if plain:
        assert model.neck.in_strides == config.strides
        # Whole maps of whole tokens, so that shares of a map are shares of the image.
        assert model.data_preprocessor.pad_size_divisor == 2 * config.strides[-1]
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end
    assert config.train_dataloader.dataset.pipeline[0].type == 'mmsigma.SeedFromPosition'
    assert config.train_dataloader.sampler.type == 'mmsigma.PositionSeededSampler'
    assert {hook.type for hook in config.custom_hooks} >= HOOKS
    assert config.default_hooks.checkpoint.type == 'mmsigma.AtomicCheckpointHook'
    assert config.optim_wrapper.constructor == 'mmsigma.LayerDecayOptimWrapperConstructor'
    rates = config.optim_wrapper.get('paramwise_cfg', {})
    assert rates.get('decay_rate', 1) == (0.7 if 'full_' in name else 1)
    assert rates.keys() <= {'decay_rate', 'custom_keys'}


def strides_in(node):
    """The strides that a model's parts name, by the key that holds them."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from strides_in(value)
        elif key == 'featmap_strides' or (key == 'strides' and node.get('scales') is not None):
            yield key, list(value)


@pytest.mark.parametrize('name', [n for n in RECIPES if 'rcnn' in n or 'retinanet' in n])
def test_strides_are_those_of_the_maps(name):
    """Boxes are cut out of the maps where they are: a patch of 14 has no stride of 16."""
    config = parse(name)
    model = config.model
    anchors = (model.get('rpn_head') or model.bbox_head).anchor_generator.strides
    if len(set(config.strides)) == 1:
        token, neck = config.strides[-1], model.neck
        octaves = [
            round(torch.tensor(s / token).log2().item())
            for s in neck.get('strides', (4, 8, 16, 32))
        ]
        levels = [token * 2.0**octave for octave in octaves]
        levels += [levels[-1] * 2.0**i for i in range(1, neck.get('pooled', 0) + 1)]
    else:
        start = model.neck.get('start_level', 0)
        levels = [config.strides[start] * 2.0**i for i in range(model.neck.num_outs)]
    assert list(anchors) == levels
    for _, strides in strides_in(model.get('roi_head', {})):
        assert strides == levels[:-1]


@pytest.mark.parametrize('name', sampled(RECIPES, lambda name: 'slice/sigma_dinov2' in name))
def test_parameters(name):
    with torch.device('meta'):  # shapes are enough
        counts = params.count(parse(name))
    assert (counts['adapters'], counts['neck'], counts['head']) == RECIPES[name]


# --- Rates and weight decay -----------------------------------------------------------------


def groups(config):
    """The model of a config, shapes alone, and the rate and decay of all that trains, by name."""
    init_default_scope('mmdet')
    config.model.backbone.trunk.weights = 'random'
    with torch.device('meta'):
        model = MODELS.build(config.model)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    return model, found


def layer(name):
    """Of a parameter of DINOv2 with 12 blocks: 0 in front of them, 13 behind and outside."""
    start = 'backbone.trunk.model.'
    block = re.match(rf'{re.escape(start)}blocks\.(\d+)\.', name)
    embeddings = tuple(f'{start}{part}' for part in ('patch_embed', 'cls_token', 'pos_embed'))
    return int(block[1]) + 1 if block else 0 if name.startswith(embeddings) else 13


def check_rates(config, inside):
    """Compare all rates and decays with the recipe; ``inside``: the schedule's factor inside."""
    model, found = groups(config)
    lr, decay = config.optim_wrapper.optimizer.lr, config.optim_wrapper.optimizer.weight_decay
    full = config.model.backbone.tuner.type == 'Full'
    rates = {}
    for prefix, module in model.named_modules():
        for key, p in module.named_parameters(prefix, recurse=False):
            if key not in found:
                continue
            matrix = isinstance(module, nn.Linear | _ConvNd) and key.endswith('.weight')
            vector = not matrix and sum(side > 1 for side in p.shape) <= 1
            assert found[key][1] == (0 if vector else decay), key
            factor = inside if key.startswith('backbone.') else 1
            factor *= 0.7 ** (13 - layer(key)) if full else 1
            assert found[key][0] == pytest.approx(lr * factor), key
            rates.setdefault(layer(key), set()).add(found[key][0])
    if full:
        assert sorted(rates) == list(range(14))
        trunk = 'backbone.trunk.model.'
        for name in ('cls_token', 'blocks.3.ls1.gamma', 'blocks.3.norm1.weight', 'norm.bias'):
            assert found[f'{trunk}{name}'][1] == 0
    kinds = {decays for _, decays in found.values()}
    assert kinds == {0, decay}


# Building takes a second each: all that train whole, every head with SIGMA, every kind of trunk.
@pytest.mark.parametrize(
    'name',
    sampled(
        [
            name
            for name in RECIPES
            if 'full_' in name
            or 'coco_slice/sigma_dinov2' in name
            or '_mask-rcnn_coco-slice' in name
            or name.endswith('short')
        ],
        lambda name: '_dinov2-s_mask-rcnn' in name,
    ),
)
def test_rates_and_weight_decay(name):
    """Norms, biases and scales do not decay; Full's rates fall layer by layer, others do not."""
    check_rates(parse(name), inside=0.6 if 'overfit' in name else 1)


@pytest.mark.parametrize('tuner', ['full', 'sigma'])
def test_rates_and_weight_decay_of_the_grid(tuner):
    """The schedule that grids put on top of recipes has a rate of its own inside the trunk."""
    config = parse(f'coco_slice/{tuner}_dinov2-s_mask-rcnn-small_coco-slice')
    config.merge_from_dict(parse('_base_/schedules/adamw_coco_slice_bs1').to_dict())
    check_rates(config, inside=0.6)


# --- Schedules and data ---------------------------------------------------------------------


def test_schedules_at_batch_16():
    """Twelve, thirty-six and three epochs of the 117,266 images of COCO that have annotations."""
    epochs = {'1x': 12, '3x': 36, 'short': 3}
    for name, count in epochs.items():
        config = parse(f'coco/sigma_dinov2-b_mask-rcnn_coco-{name}')
        assert config.train_cfg.max_iters * 16 == pytest.approx(117_266 * count, rel=1e-3)
        assert config.auto_scale_lr.base_batch_size == 16


@pytest.mark.parametrize('task', ['instance', 'detection', 'panoptic'])
@pytest.mark.parametrize('folder', ['coco', 'coco_slice'])
def test_environment_variable_points_to_the_data(folder, task, monkeypatch):
    monkeypatch.setenv('MMSIGMA_DATA', '/some/data')
    config = parse(f'_base_/datasets/{folder}_{task}')
    for split in ('train', 'val', 'test'):
        assert config[f'{split}_dataloader'].dataset.data_root == f'/some/data/{folder}'
    evaluators = config.val_evaluator
    coco = evaluators[-1] if isinstance(evaluators, list) else evaluators
    assert coco.ann_file == f'/some/data/{folder}/annotations/instances_val2017.json'
    assert config.test_evaluator == evaluators
