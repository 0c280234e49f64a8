"""A grid of detectors, whose only evaluation is validation."""

import json

import pytest

from mmsigma.errors import UnknownNameError
from mmsigma.experiments import grid, jobs, records
from tests.coco import write_coco
from tests.detectors import tiny
from tests.fixtures import Workplace

pytest.importorskip('mmdet')

GRID = """
leaf = 'leaf.py'
methods = ['sigma']
rates = [5e-4]
seeds = [0]
metric = 'coco/segm_mAP'
"""


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp('detection'))
    write_coco(place.root / 'data/coco_slice')
    config = tiny('coco_slice/sigma_dinov2-s_mask-rcnn-small_coco-slice', place.root / 'data')
    config.default_hooks.visualization.draw = False
    config.model.test_cfg.rcnn.score_thr = 0.0  # after two steps nothing is sure of itself
    config.dump(place.root / 'leaf.py')
    return place


def test_the_record_says_that_there_is_no_test(place):
    path = place.root / 'slice.py'
    path.write_text(GRID)
    done = place.spawn('grid', path)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (place.root / 'results/slice').glob('*.json')
    record = json.loads(file.read_text())
    assert record['test'] is None and record['held_out'] is False
    assert record['metric'] == 'coco/segm_mAP'
    (line,) = record['validation']
    assert line['step'] == 2
    assert {'coco/bbox_mAP', 'coco/segm_mAP', 'coco/segm_mAP_s'} <= set(line)

    # A metric that no validation has is named, with those that there are.
    (run,), _ = grid.read(path)
    counts = dict(trained=0, neck=0, head=0, share_percent=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'coco/segm_mAP'"):
        job = jobs.Job(run, place.root / f'work_dirs/slice/{run.name}', list)
        records.make(job, 'coco/segm_map', counts)
