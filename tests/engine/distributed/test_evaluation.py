"""Metrics of several processes are those of one, whatever the number of images."""

import json
import math
import os
from pathlib import Path

import pytest

from tests.coco import write_split
from tests.engine.distributed.evaluate import COUNT, evaluate
from tests.engine.distributed.jobs import free_port
from tests.processes import Process

SCRIPT = Path(__file__).with_name('evaluate.py')


@pytest.mark.slow
@pytest.mark.parametrize('processes', [2, 7])
def test_no_image_counts_twice(tmp_path, processes):
    """Five images on two processes, and on more processes than images."""
    write_split(tmp_path, 'val2017', COUNT)
    port = free_port()
    running = [
        Process(
            [SCRIPT, tmp_path], tmp_path,
            {
                **os.environ, 'RANK': str(rank), 'WORLD_SIZE': str(processes),
                'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port),
            },
            tmp_path / f'{rank}.txt',
        )
        for rank in range(processes)
    ]  # fmt: skip
    try:
        assert [process.wait() for process in running] == [0] * processes
    finally:
        for process in running:
            process.kill()
    outputs = [(tmp_path / f'{rank}.txt').read_text() for rank in range(processes)]
    line = next(x for x in outputs[0].splitlines() if x.startswith('metrics: '))
    found, expected = json.loads(line.removeprefix('metrics: ')), evaluate(tmp_path)
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    # Nothing is perfect or empty, so that one image more would be seen.
    for name in ('mIoU', 'coco/bbox_mAP', 'coco_panoptic/PQ', 'object/PQ'):
        value = expected[name]
        assert 0 < value < (1 if name.startswith('coco/') else 100) and not math.isnan(value)
