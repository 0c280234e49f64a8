"""Every config: its form, its parameters at true size, and one training step at tiny size."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmengine.utils import import_modules_from_strings
from mmseg.structures import SegDataSample

from mmsigma.apis import params
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.fixtures import HOOKS, ROOT, Workplace, logged
from tests.sample import sampled
from tests.trees import FOLDERS as BENCHMARKS

# Parameters (adapters, neck, head) of each recipe, in its own trunk.
RECIPES = {
    'camvid/frozen_dinov2-s_fcn_camvid-308x224': (0, 0, 396_555),
    'camvid/frozen_dinov2-s_fcn_camvid-448x336': (0, 0, 396_555),
    'camvid/frozen_dinov2-s_upernet_camvid-448x336': (0, 3_298_144, 7_545_611),
    'camvid/full_dinov2-s_fcn_camvid-308x224': (0, 0, 396_555),
    'camvid/full_dinov2-s_fcn_camvid-448x336': (0, 0, 396_555),
    'camvid/full_dinov2-s_upernet_camvid-448x336': (0, 3_298_144, 7_545_611),
    'camvid/sigma_dinov2-s_fcn_camvid-308x224': (921_600, 0, 396_555),
    'camvid/sigma_dinov2-s_fcn_camvid-448x336': (921_600, 0, 396_555),
    'camvid/sigma_dinov2-s_upernet_camvid-448x336': (921_600, 3_298_144, 7_545_611),
    'camvid/sigma_siglip2-b_fcn_camvid-448x336': (1_488_384, 0, 789_771),
    'camvid/sigma_beitv2-b_upernet_camvid-448x336': (1_525_248, 5_560_000, 7_545_611),
    'camvid/sigma_dinov3-convnext-t_upernet_camvid-448x336': (1_289_376, 2_732_032, 7_545_611),
    'camvid/sigma_dinov3-s_upernet_camvid-448x336': (921_600, 3_298_144, 7_545_611),
    'camvid/sigma_hiera-t_upernet_camvid-448x336': (897_312, 2_732_032, 7_545_611),
    'camvid/sigma_sam-b_upernet_camvid-448x336': (1_488_384, 5_560_000, 7_545_611),
    'camvid/sigma_sam2-hiera-t_upernet_camvid-448x336': (897_312, 2_732_032, 7_545_611),
    'camvid/sigma_dinov2-s_mask2former-semantic_camvid-448x336': (921_600, 3_298_144, 19_776_716),
    'camvid/sigma_sam2-hiera-t_mask2former-semantic_camvid-448x336': (897_312, 0, 19_883_212),
    'camvid/sigma_swin-t_mask2former-semantic_camvid-448x336': (859_584, 0, 19_883_212),
    'camvid/sigma_swin-t_upernet_camvid-448x336': (859_584, 2_732_032, 7_545_611),
    'camvid/sigma_swinv2-b_upernet_camvid-448x336': (2_138_368, 2_854_912, 7_545_611),
    'camvid/sigma_mmpretrain-beitv2-b_upernet_camvid-448x336': (1_525_248, 5_560_000, 7_545_611),
    'camvid/sigma_mmpretrain-dinov2-s_upernet_camvid-448x336': (921_600, 3_298_144, 7_545_611),
    'camvid/sigma_mmpretrain-eva02-b_upernet_camvid-448x336': (1_525_248, 5_560_000, 7_545_611),
    'camvid/sigma_mmpretrain-sam-b_upernet_camvid-448x336': (1_488_384, 5_560_000, 7_545_611),
    'camvid/sigma_mmpretrain-swin-t_upernet_camvid-448x336': (859_584, 2_732_032, 7_545_611),
    'camvid/sigma_mmpretrain-swinv2-b_upernet_camvid-448x336': (2_138_368, 2_854_912, 7_545_611),
    'camvid/adapter_dinov2-s_fcn_camvid-448x336': (1_190_400, 0, 396_555),
    'camvid/adaptformer_dinov2-s_fcn_camvid-448x336': (595_200, 0, 396_555),
    'camvid/bitfit_dinov2-s_fcn_camvid-448x336': (0, 0, 396_555),
    'camvid/convpass_dinov2-s_fcn_camvid-448x336': (170_880, 0, 396_555),
    'camvid/lora_dinov2-s_fcn_camvid-448x336': (442_368, 0, 396_555),
    'camvid/lorand_dinov2-s_fcn_camvid-448x336': (462_336, 0, 396_555),
    'camvid/mona_dinov2-s_fcn_camvid-448x336': (1_459_200, 0, 396_555),
    'camvid/norm-tuning_dinov2-s_fcn_camvid-448x336': (0, 0, 396_555),
    'camvid/partial-1_dinov2-s_fcn_camvid-448x336': (0, 0, 396_555),
    'camvid/rein_dinov2-s_fcn_camvid-448x336': (388_609, 0, 396_555),
    'camvid/ssf_dinov2-s_fcn_camvid-448x336': (102_912, 0, 396_555),
    'camvid/vfm-adapter_dinov2-s_fcn_camvid-448x336': (1_522_696, 0, 396_555),
    'camvid/vpt-deep_dinov2-s_fcn_camvid-448x336': (230_400, 0, 396_555),
    'camvid/vpt-shallow_dinov2-s_fcn_camvid-448x336': (19_200, 0, 396_555),
    'demo/frozen_dinov2-s_linear_brain-238x196': (0, 0, 1_155),
    'demo/full_dinov2-s_linear_brain-238x196': (0, 0, 1_155),
    'demo/sigma_dinov2-s_linear_brain-238x196': (921_600, 0, 1_155),
    'vnc/sigma_dinov2-s_fcn_vnc-252x252': (921_600, 0, 394_756),
}
# Of mmdet: tests/test_detection_configs.py; benchmarks: tests/test_benchmark_configs.py.
ELSEWHERE = {'coco', 'coco_slice', *BENCHMARKS}
TINY = dict(embed_dim=64, depth=4, num_heads=2, img_size=64)  # no bottleneck above 64


def parse(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


def files():
    return sorted(
        path.relative_to(ROOT / 'configs').with_suffix('').as_posix()
        for path in (ROOT / 'configs').rglob('*.py')
        if not ({'_base_', 'grids', *ELSEWHERE} & set(path.parts))
    )


def test_every_recipe_is_in_the_table():
    assert files() == sorted(RECIPES)


# --- Form -----------------------------------------------------------------------------------


def test_no_inheritance_by_scope():
    paths = sorted((ROOT / 'configs').rglob('*.py'))
    assert len(paths) > 300
    assert [path for path in paths if re.search(r'mm\w+::', path.read_text())] == []


@pytest.mark.parametrize('name', RECIPES)
def test_parses(name):
    config = parse(name)
    assert 'mmsigma' in config.custom_imports['imports']
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end
    assert {hook.type for hook in config.custom_hooks} >= HOOKS
    assert config.default_hooks.checkpoint.type == 'mmsigma.AtomicCheckpointHook'
    assert config.train_dataloader.dataset.pipeline[0].type == 'mmsigma.SeedFromPosition'


def test_environment_variables_point_to_data_and_weights(monkeypatch):
    monkeypatch.setenv('MMSIGMA_DATA', '/some/data')
    monkeypatch.setenv('MMSIGMA_WEIGHTS', '/some/weights')
    config = parse('camvid/sigma_dinov2-s_fcn_camvid-308x224')
    for split in ('train', 'val', 'test'):
        assert config[f'{split}_dataloader'].dataset.data_root == '/some/data/camvid'
    assert config.model.backbone.trunk.weights == '/some/weights/dinov2_vits14.safetensors'


def test_the_default_is_the_folder_beside_the_checkout(monkeypatch):
    monkeypatch.delenv('MMSIGMA_DATA', raising=False)
    monkeypatch.delenv('MMSIGMA_WEIGHTS', raising=False)
    config = parse('camvid/sigma_dinov2-s_fcn_camvid-308x224')
    shared = ROOT.parent / 'shared'
    assert config.train_dataloader.dataset.data_root == str(shared / 'data/camvid')
    assert config.model.backbone.trunk.weights == str(shared / 'weights/dinov2_vits14.safetensors')


# --- Facts that are stated in two places ----------------------------------------------------


@pytest.mark.parametrize('name', RECIPES)
def test_normalisation_widths_and_strides_are_the_trunks_own(name):
    config = parse(name)
    for key in ('mean', 'std'):
        assert config.model.data_preprocessor[key] == config.normalisation[key]
    assert config.model.data_preprocessor.bgr_to_rgb
    if config.model.get('neck'):
        assert config.model.neck.in_channels == config.widths
        assert config.model.neck.in_strides == config.strides
    else:
        assert config.model.decode_head.in_channels in (config.widths[-1], config.widths)


QUICK = ('308x224', 'brain-238x196', 'siglip2-b_fcn_camvid-448x336')


@pytest.mark.parametrize('name', sampled(RECIPES, lambda name: name.endswith(QUICK)))
def test_parameters(name):
    # Shapes are enough, but mmpretrain's Swin computes with values while it is built.
    with torch.device('cpu' if 'mmpretrain' in name else 'meta'):
        counts = params.count(parse(name))
    assert (counts['adapters'], counts['neck'], counts['head']) == RECIPES[name]


# --- Function -------------------------------------------------------------------------------


def tiny(name):
    """A recipe's model with a trunk of width 32 and random weights."""
    config = parse(name)
    import_modules_from_strings(**config.custom_imports)
    init_default_scope(config.default_scope)
    model = config.model
    model.backbone.trunk.update(weights='random', model_args=TINY)
    if len(model.backbone.get('out_indices')) > 1:
        model.backbone.out_indices = None
    if model.get('neck'):
        model.neck.update(in_channels=[64] * 4, in_strides=[14] * 4, out_channels=16)
        model.decode_head.update(in_channels=[16] * 4, channels=16)
    elif isinstance(model.decode_head.in_channels, int):  # a linear head, on one map
        model.decode_head.update(in_channels=64, channels=64)
    else:
        model.decode_head.update(in_channels=[64] * 4, channels=16)
    return config, MODELS.build(model)


# Recipes of other families train in tests/tools/test_families.py, Mask2Former's in
# tests/tools/test_detectors.py.
@pytest.mark.parametrize(
    'name', [n for n in RECIPES if parse(n).trunk.type == 'TimmViT' and 'mask2former' not in n]
)
def test_trains_and_predicts(name):
    config, model = tiny(name)
    assert isinstance(model.backbone, AdaptedBackbone)
    size = (48, 64)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(2)]
    labels = [torch.randint(0, config.num_classes, (1, *size)) for _ in images]
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=label),
            metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size),
        )
        for label in labels
    ]
    data = dict(inputs=images, data_samples=samples)
    trained = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    logs = model.train().train_step(data, OptimWrapper(optimizer))
    assert torch.isfinite(logs['loss'])
    now = dict(model.named_parameters())
    assert any(not torch.equal(now[n], p) for n, p in trained.items())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())

    predictions = model.eval().val_step(data)
    for prediction in predictions:
        assert prediction.pred_sem_seg.data.shape == (1, *size)
        assert prediction.pred_sem_seg.data.max() < config.num_classes


# --- mmdet ----------------------------------------------------------------------------------

MMDET = """
default_scope = 'mmdet'
trunk = dict(
    type='TimmViT', model_name='vit_small_patch14_dinov2', weights={weights!r},
    model_args=dict(embed_dim=32, depth=4, num_heads=2, img_size=56),
)
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=14,
    ),
    backbone=dict(
        type='mmsigma.AdaptedBackbone', trunk=trunk, tuner=dict(type='SIGMA', bottleneck=8)
    ),
    neck=dict(type='mmsigma.SimpleFeaturePyramid', in_channels=[32] * 4, out_channels=16),
    bbox_head=dict(
        type='RetinaHead', num_classes=2, in_channels=16, stacked_convs=1, feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
            strides=[3.5, 7, 14, 28],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
        sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False,
    ),
    test_cfg=dict(nms_pre=100, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=5),
)
train_dataloader = dict(
    batch_size=2, num_workers=0,
    sampler=dict(type='mmsigma.PositionSeededSampler'),
    dataset=dict(
        type='CocoDataset', data_root={root!r}, ann_file='annotations.json',
        data_prefix=dict(img='camvid/img_dir/train/'), metainfo=dict(classes=('left', 'right')),
        pipeline=[
            dict(type='mmsigma.SeedFromPosition'),
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
default_hooks = dict(
    checkpoint=dict(type='mmsigma.AtomicCheckpointHook', by_epoch=False, interval=1),
    logger=dict(type='LoggerHook', interval=1),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


def write_coco(root, count):
    """Two boxes an image, in COCO's format."""
    boxes = [[0, 4, 40, 56], [40, 4, 40, 56]]
    annotations = [
        dict(
            id=2 * i + k + 1, image_id=i, category_id=k, bbox=box, area=box[2] * box[3], iscrowd=0
        )
        for i in range(count)
        for k, box in enumerate(boxes)
    ]  # fmt: skip
    images = [dict(id=i, file_name=f'{i:03}.jpg', height=60, width=80) for i in range(count)]
    categories = [dict(id=0, name='left'), dict(id=1, name='right')]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'annotations.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """An mmdet config that knows nothing of this project but the names of its parts."""
    pytest.importorskip('mmdet')
    place = Workplace(tmp_path_factory.mktemp('mmdet'))
    data = place.root / 'data'
    write_coco(data, 6)
    place.detector = place.root / 'retinanet.py'
    place.detector.write_text(MMDET.format(weights=str(place.weights), root=str(data)))
    assert place.call('train', place.detector, '--work-dir', 'run') == 0
    return place


def test_mmdet_trains_through_the_same_launcher(detector):
    """The plugin is imported and checkpoints guarded, though this config names neither."""
    losses = logged(detector.root / 'run')
    assert len(losses) == 2
    state = torch.load(detector.root / 'run/iter_2.pth', weights_only=False)['state_dict']
    assert not [n for n in state if n.startswith('backbone.trunk.')]
    assert [n for n in state if n.startswith('backbone.adapters.')]


def test_mmdet_predicts(detector):
    config = Config.fromfile(detector.detector)
    init_default_scope('mmdet')
    model = MODELS.build(config.model).eval()
    from mmdet.structures import DetDataSample

    sample = DetDataSample(
        gt_instances=InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()),
        metainfo=dict(img_shape=(60, 80), ori_shape=(60, 80), scale_factor=(1.0, 1.0)),
    )
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    with torch.no_grad():
        (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    assert found.pred_instances.bboxes.shape == (5, 4)


def test_mmdet_checkpoints_are_guarded(detector, capsys):
    options = [f'load_from={detector.root}/run/iter_2.pth', 'model.bbox_head.num_classes=3']
    code = detector.call('train', detector.detector, '--cfg-options', *options)
    assert code == 1
    assert 'misshapen' in capsys.readouterr().err


def test_mmdet_paths_are_checked(detector, capsys):
    option = 'train_dataloader.dataset.ann_file=missing.json'
    code = detector.call('train', detector.detector, '--cfg-options', option)
    assert code == 1
    assert "missing.json' does not exist" in capsys.readouterr().err
