"""Jobs of two processes on CPUs, and configs whose results do not depend on their number."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.fixtures import ROOT

MANY = Path(__file__).with_name('many.py')
# A machine that does much else takes its time.
TIMEOUT = 900
ITERS = 6

# No dropout, no batch norm, and a mean over all pixels: what is random, or a mean of its own on
# each process, is not the same for two halves of a batch. The large epsilon keeps AdamW from
# dividing rounding errors by rounding errors.
EXACT = """
model['backbone']['tuner'] = dict(_delete_=True, **{tuner!r})
model['decode_head'].update(
    norm_cfg=None, dropout_ratio=0.0, loss_decode=dict(avg_non_ignore=False)
)
optim_wrapper = dict(optimizer=dict(lr=2e-3, eps=1e-3))
train_cfg['val_interval'] = 3
"""
TUNERS = {
    'SIGMA': dict(type='SIGMA', bottleneck=8),
    'LoRA': dict(
        type='HFPeft', peft_type='LORA', r=4, lora_alpha=4, target_modules=['qkv', 'proj']
    ),
    'VPT': dict(type='VPT', prompts=3),
    'Mona': dict(type='Mona', bottleneck=8),
    'BitFit': dict(type='BitFit'),
}


def exact(place, tuner, interval=2):
    """A config, and the options that give it the same batch of two on one process or two."""
    settings = TUNERS.get(tuner) or dict(type=tuner)
    return place.config(EXACT.format(tuner=settings), iters=ITERS, interval=interval)


def train(config, work_dir, processes, *options, until=ITERS, arguments=()):
    """Arguments of tools/train.py, after its name."""
    return [
        str(config), '--work-dir', str(work_dir), *arguments, '--cfg-options',
        f'train_dataloader.batch_size={2 // processes}', f'train_cfg.max_iters={until}', *options,
    ]  # fmt: skip


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


class Job:
    """Two processes that each run these command lines of tools in one go."""

    def __init__(self, place, *calls, size=2, tool='train', port=None, ranks=None, env=None):
        port = port or free_port()
        script = str(ROOT / f'tools/{tool}.py')
        # In front, since --cfg-options takes all that follows it.
        lines = [[script, '--launcher', 'pytorch', *map(str, call)] for call in calls]
        self.processes = {}
        self.outputs = {}
        for rank in ranks if ranks is not None else range(size):
            own = {
                'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': size,
                'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, **((env or {}).get(rank, {})),
            }  # fmt: skip
            output = place.root / f'output_{port}_{rank}.txt'
            with output.open('w') as file:
                self.processes[rank] = subprocess.Popen(
                    [sys.executable, str(MANY), json.dumps(lines)],
                    cwd=place.root,
                    env={
                        **os.environ, **place.env, 'PYTHONPATH': f'{place.root}:{ROOT}',
                        **{name: str(value) for name, value in own.items()},
                    },
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )  # fmt: skip
            self.outputs[rank] = output

    def wait(self, timeout=TIMEOUT):
        """Exit status and output of each process, by rank."""
        deadline = time.monotonic() + timeout
        try:
            for process in self.processes.values():
                process.wait(max(1.0, deadline - time.monotonic()))
        finally:
            for process in self.processes.values():
                process.kill()
        return {
            rank: (process.returncode, self.outputs[rank].read_text())
            for rank, process in self.processes.items()
        }

    def done(self):
        """Wait for the job, which must succeed."""
        for status, output in self.wait().values():
            assert status == 0, output[-3000:]
