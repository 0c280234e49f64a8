"""A run that is killed and resumed is the run that was never interrupted."""

import shutil
import time

import pytest
import torch
from PIL import Image

from tests.fixtures import ROOT, load, logged

ITERS, INTERVAL, VALIDATION = 12, 3, 4

# Stops where MMSIGMA_PAUSE says, for good: `iteration:N`, or `write:N`, before the Nth file that is
# written atomically gets its name.
PAUSE = """
import os
import time

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

KIND, _, NUMBER = os.environ.get('MMSIGMA_PAUSE', '').partition(':')


def pause():
    open('paused', 'w').close()
    time.sleep(300)


@HOOKS.register_module()
class PauseHook(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if KIND == 'iteration' and runner.iter + 1 == int(NUMBER):
            pause()


replace, written = os.replace, []


def replace_or_pause(source, target):
    if str(target).endswith(('.pth', 'last_checkpoint')):
        written.append(target)
        if KIND == 'write' and len(written) == int(NUMBER):
            pause()
    replace(source, target)


os.replace = replace_or_pause
"""
WITH_PAUSE = """
custom_imports = dict(imports=['mmsigma', 'pause'], allow_failed_imports=False)
custom_hooks = [dict(type='PauseHook'), *_base_.custom_hooks]
"""


def loader(workers):
    return [
        f'train_dataloader.num_workers={workers}',
        f'train_dataloader.persistent_workers={workers > 0}',
    ]


@pytest.fixture(scope='module')
def whole(place):
    """The uninterrupted run."""
    # Dropout in the head, dropout in SIGMA, and random augmentation.
    config = place.config(iters=ITERS, interval=INTERVAL)
    text = config.read_text()
    assert (
        'dropout=0.1' in text
        and 'dropout_ratio=0.1' in (ROOT / 'configs/_base_/heads/fcn.py').read_text()
    )
    assert place.call('train', config, '--work-dir', 'whole') == 0
    losses = logged(place.root / 'whole')
    assert len(losses) == ITERS
    return losses, load(place.root / f'whole/iter_{ITERS}.pth')['state_dict']


# (workers, where to kill, iterations logged by then, checkpoint to go on from)
KILLS = {
    'mid-run': (0, 'iteration:8', 8, 6),
    'mid-run, 2 workers': (2, 'iteration:8', 8, 6),
    # Replacements: iter_3, pointer, best at 4, iter_4, pointer, iter_6.
    'mid-write': (0, 'write:6', 6, 4),
}


@pytest.fixture(scope='module')
def killed(place):
    """Work directories of runs that were killed, all at once."""
    (place.root / 'pause.py').write_text(PAUSE)
    running = {}
    for number, (name, (workers, where, *_)) in enumerate(KILLS.items()):
        folder = place.root / f'killed_{number}'
        folder.mkdir()
        process = place.start(
            'train', place.config(WITH_PAUSE, iters=ITERS, interval=INTERVAL),
            '--work-dir', 'run', '--cfg-options', *loader(workers),
            folder=folder, MMSIGMA_PAUSE=where, PYTHONPATH=str(place.root),
        )  # fmt: skip
        running[name] = folder, process
    try:
        for folder, process in running.values():
            deadline = time.monotonic() + 180
            while not (folder / 'paused').exists():
                assert process.poll() is None and time.monotonic() < deadline, folder
                time.sleep(0.1)
    finally:
        for _, process in running.values():
            process.kill()
    return {name: folder / 'run' for name, (folder, _) in running.items()}


def whole_files(work_dir):
    """Open every file of a work directory; the names of temporary ones."""
    for path in work_dir.rglob('*'):
        if path.suffix == '.pth' and not path.name.startswith('.'):
            assert load(path)['state_dict']
        elif path.suffix == '.png':
            Image.open(path).load()
    logged(work_dir)  # parses every line
    return [path.name for path in work_dir.rglob('.*') if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize('name', KILLS)
def test_kill_and_resume(place, whole, killed, name):
    losses, weights = whole
    workers, where, last_logged, saved = KILLS[name]
    work_dir = killed[name]
    assert max(logged(work_dir)) == last_logged
    # Killed in the middle of a write, only the old files count, and they are whole.
    assert bool(whole_files(work_dir)) == where.startswith('write')
    assert (work_dir / 'last_checkpoint').read_text().endswith(f'iter_{saved}.pth')

    config = place.config(iters=ITERS, interval=INTERVAL)
    assert place.call(
        'train', config, '--work-dir', work_dir, '--resume', '--cfg-options', *loader(workers)
    ) == 0  # fmt: skip
    resumed = logged(work_dir, last_run=True)
    assert list(resumed) == list(range(saved + 1, ITERS + 1))
    assert logged(work_dir) == pytest.approx(losses, abs=1e-6)
    end = load(work_dir / f'iter_{ITERS}.pth')['state_dict']
    assert end.keys() == weights.keys()
    assert all(torch.allclose(v, weights[n], atol=1e-6) for n, v in end.items())
    assert whole_files(work_dir) == []
    assert len(list(work_dir.glob('iter_*.pth'))) == 2
    assert len(list(work_dir.glob('best_*.pth'))) == 1


def test_the_curve_depends_on_what_is_random(place, whole):
    """The comparison above can fail: another seed gives another curve."""
    losses, _ = whole
    config = place.config(iters=ITERS, interval=INTERVAL)
    options = ['randomness.seed=1', 'train_cfg.max_iters=3']
    assert place.call('train', config, '--work-dir', 'other', '--cfg-options', *options) == 0
    assert all(abs(v - losses[s]) > 1e-4 for s, v in logged(place.root / 'other').items())


@pytest.mark.parametrize('how', ['move', 'copy'])
def test_a_work_dir_that_was_moved_resumes(place, whole, how, tmp_path):
    losses, _ = whole
    old, new = tmp_path / 'old', tmp_path / 'new'
    config = place.config(iters=ITERS, interval=INTERVAL)
    assert place.call(
        'train', config, '--work-dir', old, '--cfg-options', 'train_cfg.max_iters=6'
    ) == 0  # fmt: skip
    before = {p.name for p in old.iterdir()}
    (shutil.move if how == 'move' else shutil.copytree)(old, new)
    config = place.config(iters=ITERS, interval=INTERVAL)
    assert place.call('train', config, '--work-dir', new, '--resume') == 0
    assert logged(new) == pytest.approx(losses, abs=1e-6)
    assert len(list(new.glob('best_*.pth'))) == 1
    if how == 'copy':
        assert {p.name for p in old.iterdir()} == before
