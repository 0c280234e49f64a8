"""Panoptic quality against an independent count in plain loops, and the panoptic transform."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from PIL import Image

from mmsigma.datasets.panoptic import INSTANCE_OFFSET, LoadPanoptic, decode, encode, read
from mmsigma.errors import DataError, InvalidSettingError
from mmsigma.evaluation import PanopticQuality
from mmsigma.evaluation.panoptic import compare, segments
from tests.coco import CAT, CATEGORIES, DOG, META, ROAD, SIZE, SNOW, write_coco

CLASSES = 4  # two things, two of stuff


def test_ids_survive_the_picture(tmp_path):
    ids = np.random.default_rng(0).integers(0, 256**3, (5, 7))
    assert np.array_equal(decode(encode(ids)), ids)
    assert ids[0, 0] == sum(int(c) * 256**i for i, c in enumerate(encode(ids)[0, 0]))
    Image.fromarray(encode(ids)).save(tmp_path / 'a.png')
    assert np.array_equal(read(str(tmp_path / 'a.png')), ids)


def reference(truth, true_segments, predicted, labels):
    """The definition, segment by segment and pixel set by pixel set."""
    sums = np.zeros((CLASSES, 4))
    void = {s['id'] for s in true_segments} ^ set(np.unique(truth).tolist())
    void = np.isin(truth, sorted(void))
    hit_truth, hit = set(), set()
    for segment in true_segments:
        for p, label in labels.items():
            if segment['crowd'] or segment['category'] != label:
                continue
            a, b = truth == segment['id'], (predicted == p) & ~void
            iou = (a & b).sum() / (a | b).sum()
            if iou > 0.5:
                sums[label, :2] += 1, iou
                hit_truth.add(segment['id'])
                hit.add(p)
    for segment in true_segments:
        if not segment['crowd'] and segment['id'] not in hit_truth:
            sums[segment['category'], 3] += 1
    for p, label in labels.items():
        crowds = [s['id'] for s in true_segments if s['crowd'] and s['category'] == label]
        excused = (void | np.isin(truth, crowds))[predicted == p].mean()
        if p not in hit and excused <= 0.5:
            sums[label, 2] += 1
    return sums


@pytest.mark.parametrize('seed', range(20))
def test_counts_equal_the_reference(seed):
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 6, (4, 4)), np.ones((5, 5), int))
    predicted = truth.copy()
    rows, columns = (random.integers(0, 20, 120) for _ in range(2))
    predicted[rows, columns] = random.integers(0, 7, 120)
    category = {0: None, 1: 0, 2: 0, 3: 1, 4: 2, 5: 3, 6: 0}
    true_segments = [
        dict(id=t, category=category[t], crowd=bool(t == 2 and seed % 2))
        for t in np.unique(truth).tolist()
        if t
    ]
    labels = {
        p: category[p] if random.random() < 0.9 else (category[p] + 1) % CLASSES
        for p in np.unique(predicted).tolist()
        if p
    }
    sums = compare(truth, true_segments, predicted, labels, CLASSES)
    assert np.allclose(sums, reference(truth, true_segments, predicted, labels), atol=1e-12)


def test_segments_of_a_map():
    panoptic = np.array([[0, 3 + INSTANCE_OFFSET], [2, 4 + INSTANCE_OFFSET]])
    ids, labels = segments(panoptic, 4)
    assert sorted(labels.values()) == [0, 2, 3]
    assert {int(ids[0, 0]): 0, int(ids[1, 0]): 2, int(ids[0, 1]): 3} == labels
    assert ids[1, 1] == 0  # a class that is none: void


def test_known_numbers():
    """One thing found with IoU 0.6, one missed; all of one stuff, and one class made up."""
    metric = PanopticQuality()
    metric.dataset_meta = {'classes': ('cat', 'dog', 'sky', 'sea'), 'thing_classes': ('cat', 'dog')}
    metric.results = [
        (np.array([[1, 0.6, 0, 1], [0, 0, 0, 0], [1, 1.0, 0, 0], [0, 0, 1, 0]]), None)
    ]
    scores = metric.compute_metrics(metric.results)
    cat = 0.6 / 1.5
    assert scores['PQ'] == pytest.approx(100 * (cat + 1 + 0) / 3)
    assert scores['PQ_th'] == pytest.approx(100 * cat)
    assert scores['SQ_th'] == pytest.approx(60)
    assert scores['RQ_th'] == pytest.approx(100 / 1.5)
    assert scores['PQ_st'] == pytest.approx(50)


# --- On files -------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    write_coco(root)
    return root


@pytest.fixture
def dataset(root):
    init_default_scope('mmdet')
    prefix = dict(img='train2017', seg='annotations/panoptic_train2017')
    return DATASETS.build(
        dict(
            type='CocoPanopticDataset',
            data_root=str(root),
            ann_file='annotations/panoptic_train2017.json',
            data_prefix=prefix,
            pipeline=[],
        )
    )


def load(dataset, index):
    results = dataset.get_data_info(index)
    for step in (
        dict(type='LoadImageFromFile'),
        dict(type='mmsigma.LoadPanoptic'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    ):
        results = TRANSFORMS.build(step)(results)
    return results


def label(category):
    return next(i for i, c in enumerate(CATEGORIES) if c['id'] == category)


def test_masks_and_labels_are_those_of_the_file(dataset):
    results = load(dataset, 2)
    assert results['gt_bboxes_labels'].tolist() == [label(DOG), label(CAT)]
    dog, _ = results['gt_masks'].masks
    expected = np.zeros(SIZE, np.uint8)
    expected[8:40, 4:36] = 1
    assert np.array_equal(dog, expected)
    assert results['gt_bboxes'].tensor.tolist() == [[4, 8, 36, 40], [44, 16, 74, 56]]
    assert not results['gt_ignore_flags'].any()
    labels = results['gt_seg_map']
    assert labels[50, 2] == label(ROAD)
    assert labels[2, 2] == label(SNOW)
    assert labels[20, 50] == label(CAT)
    assert labels[2, 70] == label(DOG)  # the crowd has a class, and no mask


def test_an_image_without_things(dataset):
    results = load(dataset, 3)
    assert len(results['gt_masks']) == 0
    assert set(np.unique(results['gt_seg_map'])) == {label(SNOW), label(ROAD)}


def test_errors(dataset, root, tmp_path):
    info = dataset.get_data_info(0)
    with pytest.raises(DataError, match=r'no panoptic picture .*data_prefix\.seg'):
        LoadPanoptic()({**info, 'seg_map_path': str(tmp_path / 'none.png')})
    (tmp_path / 'text.png').write_text('no picture')
    with pytest.raises(DataError, match='decoded'):
        read(str(tmp_path / 'text.png'))
    other = str(root / f'annotations/panoptic_train2017/{3:012}.png')
    with pytest.raises(DataError, match='no pixel of segment 900'):
        LoadPanoptic()({**info, 'seg_map_path': other})
    with pytest.raises(DataError, match=r'\(2, 2\).*\(3, 2\)'):
        compare(np.zeros((2, 2), int), [], np.zeros((3, 2), int), {}, 4)
    for settings in ({'format_only': True}, {'outfile_prefix': 'a'}):
        with pytest.raises(InvalidSettingError, match='both outfile_prefix and ann_file'):
            PanopticQuality(**settings)


def test_export_reads_back_as_the_truth(dataset, root, tmp_path):
    """Predictions in COCO's own form: ids of its categories, a PNG for each image."""
    prefix = tmp_path / 'out/run'
    ann_file = root / 'annotations/panoptic_train2017.json'
    metric = PanopticQuality(outfile_prefix=str(prefix), ann_file=str(ann_file), format_only=True)
    metric.dataset_meta = dataset.metainfo
    results = load(dataset, 0)
    panoptic = results['gt_seg_map'].astype(np.int64)
    for number, mask in enumerate(results['gt_masks'].masks, 1):
        panoptic[mask > 0] += number * INSTANCE_OFFSET
    panoptic[:, -4:] = len(META['classes'])  # void
    sample = {
        'img_id': 0,
        'img_path': results['img_path'],
        'pred_panoptic_seg': {'sem_seg': torch.from_numpy(panoptic)[None]},
    }
    metric.process({}, [sample])
    assert metric.evaluate(1) == {}
    (written,) = json.loads((tmp_path / 'out/run.panoptic.json').read_text())['annotations']
    assert written['image_id'] == 0
    ids = read(str(tmp_path / 'out/run.panoptic' / written['file_name']))
    assert (ids[:, -4:] == 0).all()
    found = {s['id']: s['category_id'] for s in written['segments_info']}
    assert sorted(found.values()) == sorted([DOG, CAT, SNOW, ROAD])
    assert {found[i] for i in np.unique(ids[10:38, 6:34])} == {DOG}
    assert set(np.unique(ids)) == {0, *found}
