"""A tiny CamVid, a tiny trunk with weights, and the tools run on them."""

import hashlib
import importlib.util
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from mmsigma.engine import launch
from tests.processes import ROOT, Process, forget_runs, quick

LEAF = ROOT / 'configs/camvid/sigma_dinov2-s_fcn_camvid-308x224.py'
MODEL = 'vit_small_patch14_dinov2'
TINY = dict(embed_dim=32, depth=4, num_heads=2, img_size=56)
COUNTS = dict(train=6, val=3, test=2)
# What configs/_base_/runtime guards every run with.
HOOKS = {
    f'mmsigma.{name}Hook'
    for name in (
        'StepSeed', 'NonFiniteLoss', 'LabelCheck', 'CheckpointGuard', 'PendingValidation', 'Stop',
        'MeanLoss', 'SameBuffers', 'RankCheck', 'ScheduleCheck',
    )
}  # fmt: skip

# The real leaf, at sizes that take milliseconds. Four blocks, so that four maps come out.
CONFIG = """
_base_ = [{leaf!r}]

train_pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(56, 42), ratio_range=(0.75, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(42, 56), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='Pad', size=(56, 42), pad_val=dict(img=0, seg=255)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(56, 42), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline), **workers)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **workers)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline), **workers)
model = dict(
    backbone=dict(
        trunk=dict(model_args={tiny!r}),
        tuner=dict(bottleneck=8, dropout=0.1),
        out_indices=None,
    ),
    decode_head=dict(in_channels=[32] * 4, channels=16),
)
optim_wrapper = dict(optimizer=dict(lr=2e-2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=2),
    dict(type='PolyLR', power=0.9, by_epoch=False, begin=2, end={iters}),
]
train_cfg = dict(max_iters={iters}, val_interval=4)
default_hooks = dict(
    checkpoint=dict(interval={interval}),
    logger=dict(interval=1),
    visualization=dict(interval=1, draw={draw}),
)
"""


def write_camvid(root, counts=COUNTS, size=(60, 80)):
    """Images of 60x80 pixels: one half is dark and class 3, the other is bright and class 10.

    The first image to train on has a pixel of each other class: a class without any is refused.
    """
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for kind in ('img_dir', 'ann_dir'):
            (root / 'camvid' / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            label = np.full(size, (3, 10)[i % 2], np.uint8)
            label[:, size[1] // 2 :] = (10, 3)[i % 2]
            image = label[..., None] * 20 + random.integers(0, 20, (*size, 3), np.uint8)
            label[:4] = 255
            if split == 'train' and i == 0:
                label[0, :11] = np.arange(11)
            Image.fromarray(image.astype(np.uint8)).save(
                root / f'camvid/img_dir/{split}/{i:03}.jpg', quality=95
            )
            Image.fromarray(label).save(root / f'camvid/ann_dir/{split}/{i:03}.png')


def write_weights(path):
    """Random, but fixed weights of the tiny trunk, under the name of the real file."""
    with torch.random.fork_rng():
        torch.manual_seed(1234)  # not the seed of any run
        model = timm.create_model(MODEL, num_classes=0, **TINY)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)


class Workplace:
    """Data, weights, configs and work directories below one folder."""

    def __init__(self, root):
        self.root = root
        self.weights = root / 'weights/dinov2_vits14.safetensors'
        write_camvid(root / 'data')
        write_weights(self.weights)
        self.env = {
            'MMSIGMA_DATA': str(root / 'data'),
            'MMSIGMA_WEIGHTS': str(root / 'weights'),
            'OMP_NUM_THREADS': '1',
            # Nothing may reach the hub.
            'HF_HUB_OFFLINE': '1',
        }
        self._configs = itertools.count(1)
        self._processes = itertools.count(1)

    def environment(self, **env):
        """That of a process."""
        return {**os.environ, **self.env, **env}

    def config(self, extra='', leaf=LEAF, iters=8, interval=4, draw=False):
        """A config with a name of its own: MMEngine shares state between runs of one name."""
        path = self.root / f'tiny_{next(self._configs)}.py'
        values = dict(leaf=str(leaf), tiny=TINY, iters=iters, interval=interval, draw=draw)
        path.write_text(CONFIG.format(**values) + extra)
        return path

    def command(self, tool, *arguments):
        """The words of a command line behind ``python``."""
        return [str(ROOT / f'tools/{tool}.py'), *map(str, arguments)]

    def start(self, tool, *arguments, folder=None, session=False, **env):
        """Start a tool as users do, in a process of its own."""
        output = self.root / f'process_{next(self._processes)}.txt'
        return Process(
            self.command(tool, *arguments), folder or self.root, self.environment(**env), output,
            output.with_suffix('.err'), session,
        )  # fmt: skip

    def spawn(self, tool, *arguments, **env):
        """Run a tool as users do, in a process of its own, to its end."""
        return self.start(tool, *arguments, **env).finish()

    def call(self, tool, *arguments):
        """Run a tool's command line in this process, as if it were a new one; the exit status."""
        spec = importlib.util.spec_from_file_location(f'tool_{tool}', ROOT / f'tools/{tool}.py')
        module = importlib.util.module_from_spec(spec)
        before = os.getcwd()
        with pytest.MonkeyPatch.context() as patch, quick():
            patch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, arguments)])
            for name, value in self.env.items():
                patch.setenv(name, value)
            patch.setenv('LOCAL_RANK', '0')
            forget_runs()
            try:
                os.chdir(self.root)
                spec.loader.exec_module(module)
                launch.run(module.main)
            except SystemExit as stop:
                return stop.code
            finally:
                os.chdir(before)
        return 0


def logged(work_dir, key='loss', last_run=False):
    """``{step: value}`` of all runs in a work directory, later runs over earlier ones."""
    found = {}
    paths = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    for path in paths[-1:] if last_run else paths:
        for line in path.read_text().splitlines():
            values = json.loads(line)
            if key in values:
                found[values['step']] = values[key]
    return found


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def hashes(folder):
    """Contents of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }
