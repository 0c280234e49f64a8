"""The config is the run: mmseg's and mmdet's own tools/train.py train what ours trains."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.coco import write_coco
from tests.fixtures import load, logged
from tests.processes import Process
from tests.tools.test_detectors import write

STEPS, SAVED = 8, 4


def segmentation(place):
    return place.config(iters=STEPS, interval=SAVED)


def detection(place):
    write_coco(place.root / 'data/coco_slice')
    return write(
        place,
        'coco_slice/sigma_dinov2-s_retinanet_coco-slice',
        model__backbone__trunk__weights=str(place.weights),
        train_cfg__max_iters=STEPS,
        train_cfg__val_interval=STEPS,
        default_hooks__checkpoint__interval=SAVED,
        default_hooks__checkpoint__max_keep_ckpts=-1,
    )


def upstream(library, place, config, work_dir, *arguments):
    """Train with the library's own tool, in a process of its own."""
    script = Path(find_spec(library).origin).parent / '.mim/tools/train.py'
    words = [script, config, '--work-dir', work_dir, *arguments]
    output = place.root / f'{work_dir}.txt'
    done = Process(words, place.root, place.environment(), output).finish()
    assert done.returncode == 0, done.stdout[-2000:]


def same(found, expected):
    assert sorted(expected['state_dict']) == sorted(found['state_dict'])
    for name, value in expected['state_dict'].items():
        assert torch.equal(found['state_dict'][name], value), name
    assert found['optimizer']['param_groups'] == expected['optimizer']['param_groups']


@pytest.mark.parametrize(
    ('library', 'make'),
    [('mmseg', segmentation), pytest.param('mmdet', detection, marks=pytest.mark.slow)],
)
def test_the_same_training(library, make, place):
    config = make(place)
    ours, theirs, both = (f'{library}-{name}' for name in ('ours', 'theirs', 'both'))
    assert place.call('train', config, '--work-dir', ours) == 0
    upstream(library, place, config, theirs)
    losses = logged(place.root / ours)
    assert len(losses) == STEPS
    assert logged(place.root / theirs) == losses
    last = load(place.root / f'{ours}/iter_{STEPS}.pth')
    same(load(place.root / f'{theirs}/iter_{STEPS}.pth'), last)

    # Each goes on from a checkpoint of the other.
    saved = f'{theirs}/iter_{SAVED}.pth'
    assert place.call('train', config, '--work-dir', both, '--resume', saved) == 0
    rest = {step: loss for step, loss in losses.items() if step > SAVED}
    assert logged(place.root / both) == rest
    same(load(place.root / f'{both}/iter_{STEPS}.pth'), last)
    saved = f'{ours}/iter_{SAVED}.pth'
    named = ['--cfg-options', f'load_from={saved}'] if library == 'mmseg' else [saved]
    upstream(library, place, config, f'{both}-2', '--resume', *named)
    assert logged(place.root / f'{both}-2') == rest
    same(load(place.root / f'{both}-2/iter_{STEPS}.pth'), last)


def test_a_config_that_lacks_hooks_is_told_so(place, capfd):
    config = place.config('custom_hooks = []', iters=3)
    assert place.call('train', config, '--work-dir', 'bare') == 0
    said = ''.join(capfd.readouterr())
    for words in ('has no StopHook', 'no PendingValidationHook', '*_base_.custom_hooks'):
        assert words in said
    assert 'MeanLossHook (' not in said  # of one process, which needs none
