"""Whatever happens while a checkpoint is written, a good one is there."""

import os
import shutil

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine.hooks import atomic_checkpoint
from mmsigma.engine.hooks.atomic_checkpoint import latest
from tests.fixtures import load


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        loss = self.layer(inputs).square().mean()
        return {'loss': loss} if mode == 'loss' else [loss]


class Metric:
    """Scores by validation, in turn."""

    def __init__(self, scores):
        self.scores = iter(scores)
        self.dataset_meta = None

    def process(self, data_samples, data_batch=None):
        pass

    def evaluate(self, size):
        return next(self.scores)


def train(work_dir, scores=(), iters=4, resume=False, load_from=None, **hook):
    """MMEngine's own runner with the hook, on a model of three numbers."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='InfiniteSampler'),
        dataset=[torch.ones(2)] * 4,
        collate_fn=lambda batch: {'inputs': default_collate(batch)},
    )
    validation = {}
    if scores:
        validation = dict(
            val_dataloader={**loader, 'sampler': dict(type='DefaultSampler', shuffle=False)},
            val_cfg=dict(),
            val_evaluator=[],
        )
    hook = dict(type='mmsigma.AtomicCheckpointHook', by_epoch=False, interval=1, **hook)
    train.count += 1
    runner = Runner(
        Model(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=hook),
        experiment_name=f'atomic_{train.count}',
        resume=resume,
        load_from=load_from and str(load_from),
        log_level='ERROR',
        **validation,
    )
    if scores:
        runner.val_loop.evaluator = Metric(scores)
    runner.train()
    return runner


train.count = 0


def names(folder, pattern='*.pth'):
    return sorted(p.name for p in folder.glob(pattern))


# --- The write ------------------------------------------------------------------------------


@pytest.mark.parametrize('where', ['os.fsync', 'os.replace'])
@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, where, error):
    path = tmp_path / 'file'
    write(path, b'old')

    def fail(*arguments):
        raise error

    monkeypatch.setattr(where, fail)
    with pytest.raises(type(error)):
        write(path, b'new')
    assert path.read_bytes() == b'old'
    assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_write_makes_folders_and_follows_the_umask(tmp_path):
    path = tmp_path / 'a/b/file'
    write(path, b'content')
    plain = tmp_path / 'plain'
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


# --- The order ------------------------------------------------------------------------------


@pytest.fixture
def events(monkeypatch):
    """What is written and removed, in order, by name."""
    seen = []

    def recorded_write(path, data):
        write(path, data)
        seen.append(f'+{os.path.basename(path)}')

    def recorded_remove(self, path):
        seen.append(f'-{os.path.basename(path)}')
        os.remove(path)

    monkeypatch.setattr(atomic_checkpoint, 'write', recorded_write)
    monkeypatch.setattr(atomic_checkpoint.AtomicLocalBackend, 'remove', recorded_remove)
    return seen


def test_the_old_goes_when_the_new_is_there(tmp_path, events):
    train(tmp_path, iters=3, max_keep_ckpts=1)
    assert events == [
        '+iter_1.pth', '+last_checkpoint',
        '+iter_2.pth', '+last_checkpoint', '-iter_1.pth',
        '+iter_3.pth', '+last_checkpoint', '-iter_2.pth',
    ]  # fmt: skip
    assert names(tmp_path) == ['iter_3.pth']


def test_the_old_best_goes_when_the_new_best_is_there(tmp_path, events):
    scores = [{'mIoU': score} for score in (0.1, 0.3, 0.2, 0.4)]
    train(tmp_path, scores, save_best='mIoU', max_keep_ckpts=2)
    best = [event for event in events if 'best' in event]
    assert best == [
        '+best_mIoU_iter_1.pth',
        '+best_mIoU_iter_2.pth', '-best_mIoU_iter_1.pth',
        '+best_mIoU_iter_4.pth', '-best_mIoU_iter_2.pth',
    ]  # fmt: skip
    assert names(tmp_path) == ['best_mIoU_iter_4.pth', 'iter_3.pth', 'iter_4.pth']


def test_several_best_checkpoints(tmp_path):
    scores = [{'mIoU': a, 'aAcc': b} for a, b in ((0.1, 0.9), (0.3, 0.2), (0.4, 0.1))]
    train(tmp_path, scores, iters=3, save_best=['mIoU', 'aAcc'], max_keep_ckpts=1)
    assert names(tmp_path, 'best*') == ['best_aAcc_iter_1.pth', 'best_mIoU_iter_3.pth']


def test_a_copied_run_leaves_the_best_of_the_original_alone(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    train(old, [{'mIoU': 0.1}, {'mIoU': 0.2}], iters=2, save_best='mIoU')
    shutil.copytree(old, new)
    train(new, [{'mIoU': 0.3}], iters=3, save_best='mIoU', resume=True, load_from=latest(new))
    assert names(old, 'best*') == ['best_mIoU_iter_2.pth']
    assert names(new, 'best*') == ['best_mIoU_iter_3.pth']


@pytest.mark.parametrize('keep', [1, 2])
def test_a_failing_write_loses_nothing(tmp_path, monkeypatch, keep):
    train(tmp_path, iters=3, max_keep_ckpts=keep)
    before = names(tmp_path)
    replace = os.replace

    def fail(source, target):
        if target.name == 'iter_4.pth':
            raise OSError('disk full')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        train(tmp_path, iters=5, resume=True, max_keep_ckpts=keep)
    assert names(tmp_path) == before
    assert latest(tmp_path) == tmp_path / 'iter_3.pth'
    assert load(tmp_path / 'iter_3.pth')['meta']['iter'] == 3
    monkeypatch.undo()
    train(tmp_path, iters=5, resume=True, max_keep_ckpts=keep)
    assert names(tmp_path) == [f'iter_{n}.pth' for n in range(6 - keep, 6)]


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    train(tmp_path, iters=1)
    for name in ('.iter_2.pth.abc', '.last_checkpoint.xyz'):
        (tmp_path / name).write_bytes(b'half')
    kept = tmp_path / '.hidden'
    kept.touch()
    train(tmp_path, iters=2, resume=True)
    assert [p.name for p in tmp_path.glob('.*')] == ['.hidden']


def test_storage_that_is_not_local_keeps_its_own_backend():
    hook = atomic_checkpoint.AtomicCheckpointHook(backend_args={'backend': 'http'})
    assert hook.backend_args == {'backend': 'http'}


# --- What to resume from --------------------------------------------------------------------


def folder(root, *files, pointer=None):
    root.mkdir(exist_ok=True)
    for age, name in enumerate(files):
        torch.save({'step': age}, root / name)
        os.utime(root / name, (1000 + age, 1000 + age))
    if pointer is not None:
        (root / 'last_checkpoint').write_text(pointer)
    return root


@pytest.mark.parametrize(
    ('files', 'pointer', 'expected'),
    [
        ([], None, None),
        (['best_mIoU_iter_3.pth'], None, None),
        (['iter_4.pth', 'iter_10.pth'], None, 'iter_10.pth'),
        (['iter_4.pth', 'iter_10.pth'], 'iter_4.pth\n', 'iter_4.pth'),
        (['iter_4.pth'], '/gone/iter_4.pth', 'iter_4.pth'),
        (['iter_4.pth', 'iter_10.pth'], '/gone/iter_12.pth', 'iter_10.pth'),
        (['iter_4.pth', 'iter_10.pth'], '', 'iter_10.pth'),
        (['epoch_2.pth'], '   \n', 'epoch_2.pth'),
        ([], '/gone/iter_12.pth', None),
    ],
)
def test_latest(tmp_path, files, pointer, expected):
    run = folder(tmp_path / 'run', *files, pointer=pointer)
    assert latest(run) == (run / expected if expected else None)


@pytest.mark.parametrize('how', ['truncated', 'empty', 'overwritten'])
@pytest.mark.parametrize('pointer', ['iter_10.pth', None])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, how, pointer, capfd):
    run = folder(tmp_path / 'run', 'iter_4.pth', 'iter_10.pth', pointer=pointer)
    content = (newest := run / 'iter_10.pth').read_bytes()
    newest.write_bytes(
        {
            'truncated': content[:-200],
            'empty': b'',
            'overwritten': content[:100] + bytes(50) + content[150:],
        }[how]
    )
    assert latest(run) == run / 'iter_4.pth'
    assert f'{newest} ({newest.stat().st_size:,} bytes) is damaged' in ''.join(capfd.readouterr())
    assert newest.exists()


def test_latest_of_a_copy_is_its_own(tmp_path):
    old = folder(tmp_path / 'old', 'iter_4.pth')
    new = folder(tmp_path / 'new', 'iter_4.pth', pointer=str(old / 'iter_4.pth'))
    assert latest(new) == new / 'iter_4.pth'


def test_latest_elsewhere(tmp_path):
    """A hook with an ``out_dir`` writes checkpoints outside the work directory."""
    out = folder(tmp_path / 'out', 'iter_4.pth')
    run = folder(tmp_path / 'run', pointer=str(out / 'iter_4.pth'))
    assert latest(run) == out / 'iter_4.pth'


def test_latest_without_a_folder(tmp_path):
    assert latest(tmp_path / 'nothing') is None
