"""Every head of mmdet on trunks of every kind: two steps and an evaluation through the launcher."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from PIL import Image

from tests.coco import CATEGORIES, DOG, SIZE, write_coco
from tests.detectors import HEADS, TRUNKS, leaf, tiny
from tests.fixtures import ROOT, Workplace, load, logged
from tests.sample import sampled

# What a head finds with little certainty, as after two steps, is nothing at its own thresholds.
THRESHOLDS = {
    'retinanet': ['score_thr'],
    'faster-rcnn': ['rcnn.score_thr'],
    'mask-rcnn': ['rcnn.score_thr'],
    'cascade-mask-rcnn': ['rcnn.score_thr'],
    'mask2former-panoptic': ['object_mask_thr', 'iou_thr'],
}
# The metrics of each head's leaves, the one that chooses the best checkpoint first.
METRICS = {
    **dict.fromkeys(('retinanet', 'faster-rcnn', 'dino'), ('coco/bbox_mAP',)),
    **dict.fromkeys(
        ('mask-rcnn', 'cascade-mask-rcnn', 'mask2former'), ('coco/bbox_mAP', 'coco/segm_mAP')
    ),
    'mask2former-panoptic': ('coco_panoptic/PQ', 'coco/bbox_mAP', 'coco/segm_mAP'),
    'mask2former-semantic': ('mIoU',),
}


def certain(head):
    """Changes that let a head's predictions count, however uncertain they are."""
    names = [name.replace('.', '__') for name in THRESHOLDS.get(head, ())]
    return {f'model__test_cfg__{name}': 0.0 for name in names}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A tiny COCO where the configs look for the slice."""
    place = Workplace(tmp_path_factory.mktemp('detectors'))
    write_coco(place.root / 'data/coco_slice')
    return place


def write(place, name, **changes):
    """A tiny twin of a leaf, with an own name; dotted names of settings in ``changes``."""
    config = tiny(name, place.root / 'data')
    config.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    path = place.root / f'{len(list(place.root.glob("*.py")))}.py'
    with pytest.MonkeyPatch.context() as patch:  # formatting would take longer than training
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        config.dump(path)
    return path


# Every task and every trunk once; the others are slow.
PAIRS = list(product(HEADS, TRUNKS))
QUICK = set(zip(('mask-rcnn', 'retinanet', 'mask2former-panoptic'), TRUNKS, strict=False))


@pytest.mark.parametrize(('head', 'trunk'), sampled(PAIRS, QUICK.__contains__))
def test_trains_and_evaluates(head, trunk, place):
    name = leaf(head, trunk)
    work = place.root / name.split('/')[-1]
    assert place.call('train', write(place, name, **certain(head)), '--work-dir', work) == 0
    losses = logged(work)
    assert len(losses) == 2
    assert all(np.isfinite(loss) for loss in losses.values())
    for metric in METRICS[head]:
        assert 0 <= logged(work, metric)[2] <= 100
    state = load(work / 'iter_2.pth')['state_dict']
    assert not [n for n in state if n.startswith('backbone.trunk.')]
    assert [n for n in state if n.startswith('backbone.adapters.')]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('head', 'threshold'),
    [
        ('mask-rcnn-small', 'rcnn__score_thr'),
        ('retinanet-small', 'score_thr'),
        ('mask2former-panoptic-small', 'iou_thr'),
    ],
)
def test_learns_and_is_judged_on_the_same_images(head, threshold, place):
    """The overfit leaves: validation is on the training images."""
    name = f'coco_slice/sigma_dinov2-s_{head}_coco-slice-overfit'
    changes = {f'model__test_cfg__{threshold}': 0.0}  # two steps find nothing with certainty
    work = place.root / f'overfit-{head}'
    assert place.call('train', write(place, name, **changes), '--work-dir', work) == 0
    assert len(logged(work)) == 2
    (folder,) = work.glob('*_*/vis_data')
    (scores,) = [
        line
        for line in map(json.loads, (folder / 'scalars.json').read_text().splitlines())
        if 'loss' not in line
    ]
    assert any(key.endswith(('bbox_mAP', 'PQ')) for key in scores)


def pictures(folder, data):
    """The two halves of every picture below a folder, and the images that they show, by name."""
    found = {}
    for path in sorted(folder.rglob('*.png')):
        picture = np.asarray(Image.open(path)).astype(int)
        assert picture.shape == (SIZE[0], 2 * SIZE[1], 3)
        found[path.name] = picture[:, : SIZE[1]], picture[:, SIZE[1] :]
    images = [np.asarray(Image.open(path)).astype(int) for path in sorted(data.glob('*.jpg'))]
    return {name: (*found[name], image) for name, image in zip(found, images, strict=True)}


def check_pictures(folder, place):
    """Truth on the left and predictions on the right are drawn on every image."""
    found = pictures(folder, place.root / 'data/coco_slice/val2017')
    assert len(found) == 3
    for truth, prediction, image in found.values():
        for half in (truth, prediction):
            assert (np.abs(half - image).max(-1) > 30).mean() > 0.02
        assert (np.abs(truth - prediction).max(-1) > 30).mean() > 0.02
    return found


@pytest.mark.slow
@pytest.mark.parametrize('head', ['mask-rcnn', 'retinanet', 'mask2former-panoptic'])
def test_draws_tests_and_exports(head, place):
    """Pictures in validation, and the files of COCO's evaluation server from tools/test.py."""
    # All boxes and masks; beside a panoptic map none, which would hide that there is none.
    score = 1.0 if head == 'mask2former-panoptic' else 0.0
    changes = dict(default_hooks__visualization__score_thr=score)
    config = write(place, leaf(head), **certain(head), **changes)
    work, out = place.root / f'run-{head}', place.root / f'export-{head}/all'
    assert place.call('train', config, '--work-dir', work) == 0
    drawn = check_pictures(work, place)
    assert list(drawn) == ['val_img_2.png', 'val_img_3.png', 'val_img_4.png']
    root = place.root / 'data/coco_slice/annotations'
    options = [f'test_evaluator.outfile_prefix={out}']
    if head == 'mask2former-panoptic':
        options = [
            f'test_evaluator.0.outfile_prefix={out}',
            f'test_evaluator.0.ann_file={root}/panoptic_val2017.json',
            f'test_evaluator.1.outfile_prefix={out}',
        ]
    shown = place.root / f'shown-{head}'
    arguments = [config, work / 'iter_2.pth', '--work-dir', place.root / f'test-{head}']
    arguments += ['--show-dir', shown, '--cfg-options', *options]
    assert place.call('test', *arguments) == 0
    check_pictures(shown, place)
    truth = json.loads((root / 'instances_val2017.json').read_text())
    kinds = ['bbox'] if head == 'retinanet' else ['bbox', 'segm']
    exported = {kind: json.loads(Path(f'{out}.{kind}.json').read_text()) for kind in kinds}
    for found in exported.values():
        assert {f['image_id'] for f in found} == {i['id'] for i in truth['images']}
        assert {f['category_id'] for f in found} <= {c['id'] for c in truth['categories']}
        for f in found:
            x, y, width, height = f['bbox']
            assert x >= 0 and y >= 0 and x + width <= SIZE[1] + 0.1 and y + height <= SIZE[0] + 0.1
            assert 0 <= f['score'] <= 1
    assert all(f['segmentation']['size'] == list(SIZE) for f in exported.get('segm', ()))
    if head == 'mask2former-panoptic':
        panoptic = json.loads(Path(f'{out}.panoptic.json').read_text())['annotations']
        assert len(panoptic) == 3
        assert len(list(Path(f'{out}.panoptic').glob('*.png'))) == 3

    # Images without published truth, as COCO lists those of its test sets.
    for part in ('annotations', 'licenses'):
        truth.pop(part, None)
    if head == 'mask2former-panoptic':
        truth['categories'] = CATEGORIES
    (root / 'image_info.json').write_text(json.dumps(truth))
    options = [option.replace('export', 'blind') for option in options]
    options = [o for o in options if 'ann_file' not in o]
    each = ['0.', '1.'] if head == 'mask2former-panoptic' else ['']
    options += [f'test_evaluator.{i}format_only=True' for i in each]
    options += [f'test_evaluator.{i}ann_file={root}/image_info.json' for i in each]
    options += ['test_dataloader.dataset.ann_file=annotations/image_info.json']
    arguments = [config, work / 'iter_2.pth', '--work-dir', place.root / f'blind-test-{head}']
    assert place.call('test', *arguments, '--cfg-options', *options) == 0
    for kind, found in exported.items():
        again = Path(f'{out}.{kind}.json'.replace('export', 'blind'))
        assert json.loads(again.read_text()) == found


@pytest.mark.slow
def test_resumes_exactly(place):
    """Crops, flips, sampled boxes: a run in two parts is the run in one."""
    name = leaf('mask-rcnn')
    changes = dict(train_cfg__max_iters=4, train_cfg__val_interval=4)
    changes |= dict(default_hooks__visualization__draw=False)
    whole, parts = place.root / 'whole', place.root / 'parts'
    config = write(place, name, **changes)
    assert place.call('train', config, '--work-dir', whole) == 0
    stop = ['--cfg-options', 'train_cfg.max_iters=2']
    assert place.call('train', config, '--work-dir', parts, *stop) == 0
    assert place.call('train', config, '--work-dir', parts, '--resume') == 0
    assert logged(parts) == logged(whole)
    first, second = (load(folder / 'iter_4.pth')['state_dict'] for folder in (whole, parts))
    for state in (first, second):
        # It says whether weights are random: the checkpoint has confirmed them since.
        del state['backbone._extra_state']
    assert all(torch.equal(first[n], second[n]) for n in first)


# --- Bad input ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('head', [h for h in HEADS if h != 'mask2former-semantic'])
def test_images_without_objects(head, place):
    """What a crop can leave: no box at all, in one image of two and in both."""
    config = tiny(leaf(head), place.root / 'data')
    init_default_scope('mmdet')
    model = MODELS.build(config.model).train()
    model.init_weights()
    for counts in ((0, 2), (0, 0)):
        samples = []
        for count in counts:
            sample = DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE, img_id=0))
            boxes = torch.tensor([[4.0, 8, 36, 40], [44, 16, 74, 56]])[:count]
            masks = np.zeros((count, *SIZE), np.uint8)
            masks[:, 20:30, 10:50] = 1
            sample.gt_instances = InstanceData(
                bboxes=HorizontalBoxes(boxes),
                labels=torch.arange(count),
                masks=BitmapMasks(masks, *SIZE),
            )
            sample.ignored_instances = InstanceData(
                bboxes=HorizontalBoxes(torch.tensor([[60.0, 0, 80, 8]])), labels=torch.zeros(1)
            )
            sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, *SIZE), 100, dtype=torch.uint8))
            samples.append(sample)
        images = [torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in counts]
        batch = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
        losses = model(**batch, mode='loss')
        loss, logs = model.parse_losses(losses)
        assert torch.isfinite(loss), logs
        loss.backward()


@pytest.mark.parametrize('task', ['instance', 'detection', 'panoptic'])
def test_images_smaller_than_the_crop(task, place):
    """Large-scale jittering at a tenth of the size: the full dataset's own pipeline."""
    heads = {'instance': 'mask-rcnn', 'detection': 'dino', 'panoptic': 'mask2former-panoptic'}
    config = tiny(leaf(heads[task]), place.root / 'data')
    full = Config.fromfile(ROOT / f'configs/_base_/datasets/coco_{task}.py')
    loader = config.train_dataloader
    loader.dataset.pipeline = full.train_pipeline
    init_default_scope('mmdet')
    dataset = DATASETS.build(loader.dataset)
    for step in dataset.pipeline.transforms:
        if type(step).__name__ == 'RandomResize':
            step.ratio_range = (0.1, 0.3)
    for index in range(2):
        item = dataset[index]
        assert max(item['inputs'].shape) < 400
        truth = item['data_samples'].gt_instances
        assert len(truth.bboxes) > 0
        assert ('masks' in truth) == (task != 'detection')
        if task == 'panoptic':
            assert item['data_samples'].gt_sem_seg.shape == item['inputs'].shape[1:]


# Areas and boxes, x, y, width and height, of an image of 80x60 pixels.
FLAT = [(0, [5, 5, 9, 9]), (9, [5, 5, 0, 9]), (9, [5, 5, 0, 0]), (9, [5, 5, 9, 0.5])]


def spoil(root):
    """Boxes without area beside objects and alone, and an image without anything to evaluate."""
    for kind in ('instances', 'panoptic'):
        path = root / f'annotations/{kind}_train2017.json'
        content = json.loads(path.read_text())
        parts = [
            dict(id=9000 + 10 * image + i, category_id=DOG, iscrowd=0, area=area, bbox=box)
            for image in (0, 3)
            for i, (area, box) in enumerate(FLAT)
        ]
        if kind == 'instances':
            mask = content['annotations'][0]['segmentation']
            for part in parts:
                part.update(image_id=part['id'] % 9000 // 10, segmentation=mask)
            content['annotations'] += parts
        else:
            for annotation in content['annotations']:
                own = [p for p in parts if p['id'] % 9000 // 10 == annotation['image_id']]
                annotation['segments_info'] += own
        path.write_text(json.dumps(content))
        path = root / f'annotations/{kind}_val2017.json'
        content = json.loads(path.read_text())
        first = [a for a in content['annotations'] if a['image_id'] == 100]
        assert first
        if kind == 'instances':
            content['annotations'] = [a for a in content['annotations'] if a not in first]
        else:
            first[0]['segments_info'] = []
        path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize('head', ['mask-rcnn', 'retinanet', 'mask2former-panoptic'])
def test_boxes_without_area_crowds_and_empty_images(head, tmp_path):
    """They pass the check, each image is read, and an empty one is evaluated."""
    own = Workplace(tmp_path)
    write_coco(own.root / 'data/coco_slice')
    spoil(own.root / 'data/coco_slice')
    config = tiny(leaf(head), own.root / 'data')
    init_default_scope('mmdet')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    # Instances and ignored regions of each image; mmdet's panoptic filter is the stricter one.
    expected = {0: (2, 0), 1: (2, 0), 2: (2, 1), 3: (0, 0), 4: (0, 1), 5: (2, 0)}
    if head == 'mask2former-panoptic':
        expected = {0: (2, 0), 1: (2, 0), 2: (2, 0), 5: (2, 0)}
    found = {}
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = sample.gt_instances
        found[sample.img_id] = (len(truth.bboxes), len(sample.ignored_instances.bboxes))
        assert (truth.bboxes.areas > 0).all()
        if 'masks' in truth:
            assert (truth.masks.areas > 0).all()
    assert found == expected

    changes = dict(train_cfg__max_iters=len(expected), train_cfg__val_interval=len(expected))
    work = own.root / 'run'
    assert (
        own.call('train', write(own, leaf(head), **certain(head), **changes), '--work-dir', work)
        == 0
    )
    assert len(logged(work)) == len(expected)
    assert all(np.isfinite(loss) for loss in logged(work).values())
    for metric in METRICS[head]:
        assert 0 <= logged(work, metric)[len(expected)] <= 100


@pytest.mark.parametrize(
    ('head', 'option', 'words'),
    [
        ('mask-rcnn', 'model.roi_head.mask_head.num_classes=3', ['roi_head.mask_head', '3', '80']),
        ('retinanet', 'model.bbox_head.num_classes=81', ['bbox_head', '81', 'has 80']),
        (
            'retinanet',
            'train_dataloader.dataset.metainfo.classes="[cat,dgo]"',
            ['dgo', 'no category'],
        ),
        ('dino', 'train_dataloader.dataset.metainfo.classes="[cat,dog]"', ['cat is 0', 'order']),
        ('mask2former', 'train_dataloader.dataset.data_prefix.img=val2017', ['6 of 6 images']),
    ],
)
def test_what_does_not_fit_is_said_before_training(head, option, words, place, capsys):
    work = place.root / 'never'
    code = place.call(
        'train', write(place, leaf(head)), '--work-dir', work, '--cfg-options', option
    )
    assert code == 1
    message = capsys.readouterr().err
    assert all(word in message for word in ('error:', *words)), message
    assert 'Traceback' not in message
    assert not list(work.glob('*.pth'))
