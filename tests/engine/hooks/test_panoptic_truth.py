"""The truth that is drawn beside panoptic predictions."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.hooks import Hook

from mmsigma.engine.hooks import PanopticTruthHook
from tests.coco import META, SIZE, segments, write_split

pytest.importorskip('mmdet')
from mmdet.structures import DetDataSample

CLASSES = META['classes']


class DetVisualizationHook(Hook):
    """What is asked of mmdet's."""

    def __init__(self, draw):
        self.draw, self.interval = draw, 5


@pytest.fixture
def samples(tmp_path):
    """Two images as they come out of the test pipeline, one without published truth."""
    write_split(tmp_path, 'val2017', 3)
    facts = [
        dict(id=300 * number, category=CATEGORY[category], is_thing=not crowd)
        for number, (category, _, _, crowd) in enumerate(segments(2), 1)
    ]
    path = str(tmp_path / f'annotations/panoptic_val2017/{2:012}.png')
    found = [dict(seg_map_path=path, segments_info=facts), dict(segments_info=[])]
    return [DetDataSample(metainfo=meta) for meta in found]


CATEGORY = {3 * i + 1: i for i in range(len(CLASSES))}


def runner(draw, iteration=7):
    visualizer = SimpleNamespace(dataset_meta=dict(classes=CLASSES))
    hooks = [Hook(), DetVisualizationHook(draw)]
    return SimpleNamespace(iter=iteration, hooks=hooks, visualizer=visualizer)


def expected():
    """Labels and numbers of the segments, in their order: later ones are above earlier ones."""
    panoptic = np.full(SIZE, len(CLASSES))
    for number, (category, rows, columns, _) in enumerate(segments(2), 1):
        panoptic[slice(*rows), slice(*columns)] = CATEGORY[category] + 1000 * number
    return panoptic


def test_what_is_drawn_gets_its_truth(samples):
    PanopticTruthHook().after_val_iter(runner(True), 3, None, samples)  # 7 + 3: a multiple of 5
    assert (samples[0].gt_panoptic_seg.sem_seg == expected()[None]).all()
    PanopticTruthHook().after_val_iter(runner(True), 3, None, samples[1:])
    assert 'gt_panoptic_seg' not in samples[1]


def test_a_picture_without_any_segment_of_its_annotation(samples):
    """mmdet's visualiser would stop the run."""
    for segment in samples[0].segments_info:
        segment['id'] += 1
    PanopticTruthHook().after_val_iter(runner(True), 3, None, samples)
    assert 'gt_panoptic_seg' not in samples[0]


def test_images_that_are_tested(samples):
    PanopticTruthHook().after_test_iter(runner(True), 1, None, samples)
    assert (samples[0].gt_panoptic_seg.sem_seg == expected()[None]).all()
    assert 'gt_panoptic_seg' not in samples[1]


def test_nothing_is_read_for_what_is_not_drawn(samples):
    hook = PanopticTruthHook()
    hook.after_val_iter(runner(True), 4, None, samples)
    hook.after_val_iter(runner(False), 3, None, samples)
    hook.after_test_iter(runner(False), 3, None, samples)
    hook.after_val_iter(runner(True), 3, None, None)
    assert 'gt_panoptic_seg' not in samples[0]
