"""Jobs of two processes on CPUs, and configs whose results do not depend on their number."""

import json
import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT, TIMEOUT, Process

MANY = Path(__file__).with_name('many.py')
ITERS = 6

# No dropout, no batch norm, and a mean over all pixels: what is random, or a mean of its own on
# each process, is not the same for two halves of a batch. The large epsilon keeps AdamW from
# dividing rounding errors by rounding errors.
EXACT = """
model['backbone']['tuner'] = dict(_delete_=True, **{tuner!r})
model['decode_head'].update(
    norm_cfg=None, dropout_ratio=0.0, loss_decode=dict(avg_non_ignore=False)
)
optim_wrapper = dict(optimizer=dict(lr=1e-2, eps=1e-3))
train_cfg['val_interval'] = 3
"""
TUNERS = {
    'SIGMA': dict(type='SIGMA', bottleneck=8),
    'LoRA': dict(
        type='HFPeft', peft_type='LORA', r=4, lora_alpha=4, target_modules=['qkv', 'proj']
    ),
    'VPT': dict(type='VPT', prompts=3, dropout=0.0),
    'Mona': dict(type='Mona', bottleneck=8, dropout=0.0),
    'BitFit': dict(type='BitFit'),
    'Full': dict(type='Full'),
}


def exact(place, tuner='SIGMA', extra='', interval=2):
    """A config, and the options that give it the same batch of two on one process or two."""
    text = EXACT.format(tuner=TUNERS[tuner]) + extra
    return place.config(text, iters=ITERS, interval=interval)


def arguments(config, work_dir, processes, *options, until=ITERS, more=()):
    """The command line of tools/train.py with which the batch is two on so many processes."""
    return [
        config, '--work-dir', work_dir, *more, '--cfg-options',
        f'train_dataloader.batch_size={2 // processes}', f'train_cfg.max_iters={until}', *options,
    ]  # fmt: skip


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


class Call(NamedTuple):
    """What came of a command line in one process."""

    status: int
    output: str
    seconds: float


def calls(text, ended, status):
    """The :class:`Call` of each command line from what a process of many.py has written.

    Args:
        text: It.
        ended: Time of the last writing.
        status: Of the process, which a command line may have ended.
    """
    found = []
    for part in text.split('=== begin ')[1:]:
        begin, output = part.split('\n', 1)
        end = re.search(r'=== end (.+) status (\d+)\n', output)
        last, code = end.groups() if end else (ended, status)
        found.append(Call(int(code), output[: end and end.start()], float(last) - float(begin)))
    return found


class Job:
    """Two processes that each run these command lines of tools/train.py, one after the other."""

    def __init__(self, place, *lines, port=None, env=None, launcher='pytorch'):
        self.port = port or free_port()
        script = ROOT / 'tools/train.py'
        # The launcher in front, since --cfg-options takes all that follows it.
        given = [[*map(str, [script, '--launcher', launcher, *line])] for line in lines]
        self.processes, self.outputs = [], []
        for rank in (0, 1):
            own = {
                **told(place, launcher, rank), 'MASTER_PORT': self.port, 'MMSIGMA_WAIT': TIMEOUT,
                'PYTHONPATH': f'{place.root}{os.pathsep}{ROOT}', **(env or {}).get(rank, {}),
            }  # fmt: skip
            own = {name: str(value) for name, value in own.items()}
            self.outputs.append(place.root / f'output_{self.port}_{rank}.txt')
            self.processes.append(
                Process(
                    [MANY, json.dumps(given)], place.root, place.environment(**own),
                    self.outputs[-1],
                )
            )  # fmt: skip

    def wait(self, timeout=TIMEOUT):
        """Of each process, the :class:`Call` of each command line, and of one that ended it."""
        deadline = time.monotonic() + timeout
        try:
            for process in self.processes:
                process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            for process in self.processes:
                process.kill()
        return [
            calls(output.read_text(), output.stat().st_mtime, process.returncode)
            for process, output in zip(self.processes, self.outputs, strict=True)
        ]

    def done(self):
        """Wait for the job, of which every command line must succeed."""
        for calls in self.wait():
            for call in calls:
                assert call.status == 0, call.output[-3000:]

    def refused(self):
        """Wait for the job; of each command line, what the processes said who all refused it."""
        found = self.wait()
        for call in (call for calls in found for call in calls):
            assert call.status == 1, call.output[-3000:]
            assert call.seconds < 60, call.output[-3000:]
            assert 'error: ' in call.output and 'Traceback' not in call.output
        return [[call.output for call in calls] for calls in zip(*found, strict=True)]


def told(place, launcher, rank):
    """What a launcher says to one of two processes on this machine."""
    if launcher == 'mpi':
        values = dict(RANK=rank, SIZE=2, LOCAL_RANK=rank, LOCAL_SIZE=2)
        return {f'OMPI_COMM_WORLD_{name}': value for name, value in values.items()}
    if launcher == 'slurm':
        folder = place.root / 'slurm'
        folder.mkdir(exist_ok=True)
        scontrol = folder / 'scontrol'
        scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname here" ] && echo localhost\n')
        scontrol.chmod(0o755)
        values = dict(PROCID=rank, NTASKS=2, LOCALID=rank, NODELIST='here')
        path = f'{folder}{os.pathsep}{os.environ["PATH"]}'
        return {'PATH': path, **{f'SLURM_{name}': value for name, value in values.items()}}
    return dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1')
