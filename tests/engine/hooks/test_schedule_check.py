"""Schedules that do not fit the loop, and resumed runs that would not follow their config."""

import pytest

from tests.fixtures import Workplace, logged

STEPS = 4
POLY = dict(type='PolyLR', by_epoch=False, begin=0, end=STEPS)
SHORT, LONG = {**POLY, 'end': STEPS - 1}, {**POLY, 'end': STEPS + 1}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp('schedules'))


def train(place, capfd, schedule, *arguments, work_dir='run'):
    """Train; the exit status and what was said."""
    config = place.config(f'param_scheduler = {schedule!r}\n', iters=STEPS)
    status = place.call('train', config, '--work-dir', work_dir, *arguments)
    return status, ''.join(capfd.readouterr())


@pytest.mark.parametrize(
    ('schedule', 'words'),
    [
        (dict(type='PolyLR', begin=0, end=2), 'counts epochs, as is the default'),
        (SHORT, f'ends at zero after {STEPS - 1} iterations, but the training has {STEPS}'),
        ({**SHORT, 'type': 'CosineAnnealingLR'}, 'ends at zero'),
        ({**SHORT, 'type': 'CosineAnnealingLR', 'eta_min_ratio': 0.0}, 'ends at zero'),
        ({**SHORT, 'type': 'LinearLR', 'end_factor': 0.0}, 'ends at zero'),
    ],
)
def test_what_would_train_in_vain_is_refused(place, capfd, schedule, words):
    status, said = train(place, capfd, [schedule], work_dir='refused')
    assert status == 1
    assert words in said
    assert 'param_scheduler.0' in said
    assert not logged(place.root / 'refused')


@pytest.mark.parametrize(
    ('schedules', 'warns'),
    [
        ([], False),
        ([POLY], False),
        ([{**SHORT, 'eta_min': 1e-4}], False),
        ([{**SHORT, 'type': 'LinearLR', 'end_factor': 0.5}], False),
        ([{**POLY, 'type': 'MultiStepLR', 'milestones': [2], 'end': 99}], True),
        ([LONG], True),
        ([{**SHORT, 'type': 'LinearLR', 'end': 2}, {**POLY, 'begin': 2}], False),
    ],
)  # fmt: skip
def test_what_teaches_passes(place, capfd, schedules, warns):
    status, said = train(place, capfd, schedules, work_dir='passes')
    assert status == 0, said
    assert ('the rate does not reach its end' in said) == warns


EPOCHS = """
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
default_hooks['checkpoint']['by_epoch'] = True
param_scheduler = []
"""
ENDLESS = "dict(type='mmsigma.PositionSeededSampler', shuffle=False)"


@pytest.mark.parametrize(
    ('extra', 'words'),
    [
        (EPOCHS, 'train_dataloader draws with PositionSeededSampler, which has no end'),
        (
            f"param_scheduler = []\nval_dataloader['sampler'] = {ENDLESS}",
            'val_dataloader draws with PositionSeededSampler',
        ),
        (
            "param_scheduler = []\ndefault_hooks['checkpoint']['by_epoch'] = True",
            'saves by epochs, as is the default, and IterBasedTrainLoop has none',
        ),
    ],
)
def test_what_does_not_fit_the_loop_is_refused(place, capfd, extra, words):
    config = place.config(extra, iters=STEPS)
    assert place.call('train', config, '--work-dir', 'loops') == 1
    assert words in ''.join(capfd.readouterr())
    assert not logged(place.root / 'loops')


def test_epochs_of_a_sampler_with_an_end_pass(place):
    sampler = "train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)"
    config = place.config(EPOCHS + sampler)
    assert place.call('train', config, '--work-dir', 'epochs') == 0
    assert (place.root / 'epochs/epoch_1.pth').is_file()


def test_a_test_without_an_end_is_refused(place, capfd):
    config = place.config(f"test_dataloader['sampler'] = {ENDLESS}\nparam_scheduler = []", iters=2)
    assert train(place, capfd, [], work_dir='tested')[0] == 0
    checkpoint = f'tested/iter_{STEPS}.pth'
    assert place.call('test', config, checkpoint, '--work-dir', 'endless') == 1
    assert 'test_dataloader draws with' in ''.join(capfd.readouterr())


def test_a_resumed_run_follows_its_config_or_is_refused(place, capfd):
    assert train(place, capfd, [POLY])[0] == 0
    before = logged(place.root / 'run')
    longer = ['--resume', '--cfg-options', f'train_cfg.max_iters={STEPS + 4}']
    for schedule, options, words in (
        ([POLY], longer, 'ends at zero'),
        ([{**POLY, 'end': STEPS + 4}], longer, f'end is {STEPS + 4} in the config, {STEPS} in'),
        ([{**POLY, 'power': 2.0}], ['--resume'], 'power is 2.0 in the config, 1'),
        ([POLY, LONG], ['--resume'], 'has 2 schedulers, the checkpoint 1'),
        ([POLY], ['--resume', '--cfg-options', 'optim_wrapper.optimizer.lr=1e-4'], 'lr is '),
        (
            [POLY],
            ['--resume', '--cfg-options', 'optim_wrapper.optimizer.weight_decay=0.5'],
            'weight_decay is 0.5 in the config, 0.01 in the checkpoint',
        ),
    ):
        status, said = train(place, capfd, schedule, *options)
        assert status == 1, words
        assert words in said, said
    assert logged(place.root / 'run') == before
    # What was meant: a new schedule from these weights.
    weights = f'load_from=run/iter_{STEPS}.pth'
    assert train(place, capfd, [POLY], '--cfg-options', weights, work_dir='new')[0] == 0
    assert train(place, capfd, [POLY], '--resume')[0] == 0
