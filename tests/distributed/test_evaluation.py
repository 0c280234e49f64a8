"""Metrics of several processes are those of one, whatever the number of images."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coco import write_split
from tests.distributed.evaluate import COUNT, evaluate
from tests.distributed.jobs import TIMEOUT, free_port
from tests.fixtures import ROOT

SCRIPT = Path(__file__).with_name('evaluate.py')


@pytest.mark.slow
@pytest.mark.parametrize('processes', [2, 7])
def test_no_image_counts_twice(tmp_path, processes):
    """Five images on two processes, and on more processes than images."""
    write_split(tmp_path, 'val2017', COUNT)
    port = free_port()
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'RANK': str(rank),
                'WORLD_SIZE': str(processes), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port),
            },
        )
        for rank in range(processes)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes
    line = next(x for x in outputs[0].splitlines() if x.startswith('metrics: '))
    found, expected = json.loads(line.removeprefix('metrics: ')), evaluate(tmp_path)
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    # Nothing is perfect or empty, so that one image more would be seen.
    for name in ('mIoU', 'coco/bbox_mAP', 'coco_panoptic/PQ', 'object/PQ'):
        value = expected[name]
        assert 0 < value < (1 if name.startswith('coco/') else 100) and not math.isnan(value)
