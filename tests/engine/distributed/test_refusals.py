"""Jobs of two processes that cannot work: each process says why, and ends within a minute."""

import os
import socket
import subprocess
import sys
import time

import pytest

from mmsigma.engine.distributed.wait_for_port import WAIT
from tests.engine.distributed.jobs import Job, arguments, exact, free_port
from tests.fixtures import ROOT

pytestmark = pytest.mark.slow

SHORT = 20  # seconds to meet, in jobs that never do

# Modules that configs import: what this machine is not.
OLD_GPU = """
import os

import torch

from mmsigma.engine.distributed import checks

if os.environ['RANK'] == '1':
    checks.get_device = lambda: 'cuda'
    torch.cuda.is_bf16_supported = lambda including_emulation: False
    torch.cuda.get_device_capability = lambda: (7, 0)
    torch.cuda.get_device_name = lambda: 'V100'
"""
MIXED = """
import os

from mmsigma.engine.distributed import connect

connect.get_device = lambda: 'cuda'
connect._take_gpu = lambda: None
connect.device_name = lambda: ['A100', 'V100'][int(os.environ['RANK'])]
"""
LONE_GPU = """
import os

from mmsigma.engine.distributed import connect

if os.environ['RANK'] == '0':
    connect.get_device = lambda: 'cuda'
    connect._take_gpu = lambda: None
    connect.device_name = lambda: 'A100'
"""
IMPORTS = "custom_imports = dict(imports=['mmsigma', {!r}], allow_failed_imports=False)\n"
ELSEWHERE = """
import os

if os.environ['RANK'] == '1':
    train_dataloader['dataset']['data_root'] = '/nowhere/camvid'
"""


def on(place, name, text):
    """A config that imports this text first."""
    (place.root / f'{name}.py').write_text(text)
    return exact(place, extra=IMPORTS.format(name))


def test_what_one_process_cannot_use_all_refuse(place):
    folder = place.root / 'iter_4.pth'
    folder.mkdir()
    (folder / 'mp_rank_00_model_states.pt').touch()
    lines = {
        'fewer': arguments(exact(place), 'fewer', 2, 'train_dataloader.dataset.indices=1'),
        'uneven': arguments(exact(place), 'uneven', 2, 'val_dataloader.sampler.round_up=False'),
        'lacks': arguments(exact(place, extra=ELSEWHERE), 'lacks', 2),
        'other': arguments(exact(place), 'other', 2, more=('--resume', folder)),
        'old': arguments(
            on(place, 'old_gpu', OLD_GPU), 'old', 2, 'model.backbone.autocast=bfloat16'
        ),
    }
    texts = dict(zip(lines, Job(place, *lines.values()).refused(), strict=True))
    for text in texts['fewer']:
        assert 'train_dataloader: 1 samples for 2 processes' in text
    for text in texts['uneven']:
        assert 'val_dataloader: 2, 1 batches, by process' in text and 'round_up' in text
    for text in texts['lacks']:
        assert 'error: Process 1 of 2, on ' in text
        assert '/nowhere/camvid' in text and 'does not exist' in text
    for text in texts['other']:
        assert f'{folder} is a folder of the shards of DeepSpeed' in text
    for text in texts['old']:
        assert 'error: Process 1 of 2, on ' in text
        assert 'model.backbone.autocast: bfloat16, which V100 (compute capability 7.0)' in text
    assert not [path for name in lines for path in (place.root / name).glob('*.pth')]


def test_mixed_devices(place):
    """Two kinds of GPU; a machine whose GPU does not work, beside one with NCCL."""
    env = {rank: {'MMSIGMA_MIXED_DEVICES': '1'} for rank in (0, 1)}
    mixed = Job(place, arguments(on(place, 'mixed', MIXED), 'mixed', 2))
    lone = Job(place, arguments(on(place, 'lone_gpu', LONE_GPU), 'lone', 2), env=env)
    for text in mixed.refused()[0]:
        assert 'differ in their devices (A100: process 0; V100: process 1)' in text
    for text in lone.refused()[0]:
        assert 'cannot send each other anything (A100 (nccl): process 0; cpu with Py' in text


def test_processes_that_do_not_meet(place):
    """A wrong address, a port where something else listens, a process that is never started."""
    line = arguments(exact(place), 'apart', 2)
    short = {'MMSIGMA_WAIT': SHORT}
    wrong = {0: short, 1: {**short, 'MASTER_ADDR': 'nowhere.invalid'}}
    absent = {rank: {'WORLD_SIZE': 3, 'MMSIGMA_WAIT': 45} for rank in (0, 1)}  # the default
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        jobs = {
            'address': Job(place, line, env=wrong),
            'port': Job(
                place, line, env=dict.fromkeys((0, 1), short), port=silent.getsockname()[1]
            ),
            'absent': Job(place, line, env=absent),
        }
        found = {how: job.refused()[0] for how, job in jobs.items()}
    for texts in found.values():
        for rank, text in enumerate(texts):
            assert f'error: Process {rank} of ' in text and 'did not meet the others at' in text
            assert 'MASTER_ADDR' in text
    assert '1 did not come' in found['address'][0]
    assert 'at nowhere.invalid:' in found['address'][1]
    assert 'in use' in found['port'][0]
    assert all('process 2 did not come' in text for text in found['absent'])


def test_machines_that_do_not_meet():
    """tools/dist_train.sh on one of two machines, which waits for the other in vain."""
    assert WAIT <= 45  # with the start of Python less than a minute
    begin = time.monotonic()
    running = [
        subprocess.Popen(
            ['bash', str(ROOT / 'tools/dist_train.sh'), 'config.py', '1'],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ, 'PYTHON': sys.executable, 'NNODES': '2', 'NODE_RANK': str(number),
                'PORT': str(free_port()), 'MMSIGMA_WAIT': '5',
            },
        )
        for number in (0, 1)
    ]  # fmt: skip
    for number, (machine, cause) in enumerate(
        zip(running, ('1/2 clients joined', 'Connection refused'), strict=True)
    ):
        text = machine.communicate(timeout=300)[1]
        assert machine.returncode == 1
        assert f'error: Machine {number} of 2, ' in text and cause in text
        assert 'NODE_RANK' in text and 'Traceback' not in text
    assert time.monotonic() - begin < 60
