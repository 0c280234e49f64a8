"""The small hooks, one by one."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmsigma.engine.hooks import (
    CheckpointGuardHook,
    FinalTestHook,
    LabelCheckHook,
    NonFiniteLossHook,
    StepSeedHook,
)
from mmsigma.errors import (
    CheckpointMismatchError,
    DataError,
    NonFiniteLossError,
    WeightsError,
)
from mmsigma.models.adapted_backbone import AdaptedBackbone

TRUNK = dict(
    type='TimmViT',
    model_name='vit_small_patch14_dinov2',
    weights='random',
    model_args=dict(embed_dim=32, depth=2, num_heads=2, img_size=56),
)

# --- StepSeedHook ---------------------------------------------------------------------------


def draw(seed, iteration):
    StepSeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), 0)
    return torch.rand(4)


def test_a_step_draws_the_same_whatever_came_before():
    first = draw(0, 5)
    torch.rand(100)
    assert torch.equal(first, draw(0, 5))


@pytest.mark.parametrize(('seed', 'iteration'), [(1, 5), (0, 6), (5, 0)])
def test_other_seeds_and_steps_draw_others(seed, iteration):
    assert not torch.equal(draw(0, 5), draw(seed, iteration))


def test_ranks_draw_differently(monkeypatch):
    first = draw(0, 5)
    monkeypatch.setattr('mmsigma.engine.hooks.step_seed.get_rank', lambda: 1)
    assert not torch.equal(first, draw(0, 5))


# --- NonFiniteLossHook ----------------------------------------------------------------------

RUNNER = SimpleNamespace(
    iter=6, work_dir='runs/x', optim_wrapper=SimpleNamespace(get_lr=lambda: {'lr': [0.25]})
)


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
@pytest.mark.parametrize('name', ['loss', 'decode.loss_ce', 'aux.loss'])
def test_a_broken_loss_stops_training(name, value):
    outputs = {'loss_fine': torch.tensor(1.0), name: torch.tensor(float(value))}
    with pytest.raises(NonFiniteLossError) as caught:
        NonFiniteLossHook().after_train_iter(RUNNER, 6, outputs=outputs)
    for word in ('iteration 7', name, "'lr': 0.25", 'runs/x', '--resume'):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    'outputs',
    [
        None,
        {},
        {'loss': torch.tensor(1.0)},
        {'acc_seg': torch.tensor(float('nan'))},  # no loss
        {'loss_map': torch.full((2, 2), float('nan'))},  # no single number
        {'loss': 'text'},
    ],
)
def test_what_is_no_broken_loss_passes(outputs):
    NonFiniteLossHook().after_train_iter(RUNNER, 6, outputs=outputs)


def test_broken_weights_are_not_saved():
    hook = NonFiniteLossHook()
    state = {'a': torch.ones(2), 'steps': torch.tensor(3)}
    hook.before_save_checkpoint(RUNNER, {'state_dict': state})
    state['b.weight'] = torch.tensor([1.0, float('inf')])
    with pytest.raises(NonFiniteLossError, match=r'iteration 7, 1 weights .*b\.weight.*not saved'):
        hook.before_save_checkpoint(RUNNER, {'state_dict': state})


# --- FinalTestHook --------------------------------------------------------------------------


def test_final_test_runs_once_where_there_is_one():
    runs = []
    artist, other = SimpleNamespace(draw=True), SimpleNamespace(draw=False)
    loop = SimpleNamespace(run=lambda: runs.append(artist.draw))
    hooks = [artist, other, object()]
    FinalTestHook().after_train(SimpleNamespace(test_loop=loop, hooks=hooks))
    FinalTestHook().after_train(SimpleNamespace(test_loop=None, hooks=hooks))
    assert runs == [False]  # once, without drawing
    assert artist.draw and not other.draw


# --- LabelCheckHook -------------------------------------------------------------------------

HEADS = dict(decode_head=dict(num_classes=7))


class Loop:
    """A loop that knows its data, and is its own data."""

    def __init__(self):
        self.dataloader = SimpleNamespace(dataset=self)


@pytest.fixture
def checked(monkeypatch):
    """A runner, and the splits that are checked in it."""
    seen = []

    def check_labels(dataset, model, samples, absent):
        seen.append((dataset, model, samples, absent))
        return 1

    monkeypatch.setattr('mmsigma.engine.hooks.label_check.check_labels', check_labels)
    runner = SimpleNamespace(
        cfg=dict(model=HEADS), logger=logging.getLogger('test'), hooks=[],
        train_loop=Loop(), val_loop=Loop(), test_loop=Loop(),
    )  # fmt: skip
    return runner, seen


@pytest.mark.parametrize('final', [False, True])
def test_labels_of_all_splits_that_the_run_reads(checked, final):
    runner, seen = checked
    runner.hooks = [FinalTestHook()] if final else []
    hook = LabelCheckHook(samples=5, absent=['car'])
    hook.before_train(runner)
    splits = [runner.train_loop, runner.val_loop] + [runner.test_loop] * final
    absent = [['car'], None, None]  # a class may well be absent from what is not trained on
    assert seen == [(split, HEADS, 5, a) for split, a in zip(splits, absent, strict=False)]
    hook.before_test(runner)  # the final test: all is known by then
    assert len(seen) == len(splits)


def test_labels_of_a_test_alone(checked):
    runner, seen = checked
    LabelCheckHook().before_test(runner)
    assert [split for split, *_ in seen] == [runner.test_loop]


def test_no_validation_and_no_model(checked):
    runner, seen = checked
    runner.val_loop, runner.cfg = None, {}
    LabelCheckHook().before_train(runner)
    assert seen == [(runner.train_loop, {}, LabelCheckHook().samples, ())]


def test_label_errors_are_raised(checked, monkeypatch):
    runner, _ = checked

    def fail(*arguments):
        raise DataError('labels')

    monkeypatch.setattr('mmsigma.engine.hooks.label_check.check_labels', fail)
    with pytest.raises(DataError):
        LabelCheckHook().before_train(runner)


def test_what_the_config_says_of_labels_is_checked_too(checked):
    """Of every split that is read, and before any label file."""
    runner, seen = checked
    metric = dict(type='IoUMetric', ignore_index=0)
    runner.cfg['val_dataloader'] = dict(dataset=dict(data_root='', ignore_index=255))
    runner.cfg['val_evaluator'] = metric
    with pytest.raises(DataError, match=r'val_evaluator.ignore_index is 0; val_dataloader'):
        LabelCheckHook().before_train(runner)
    assert len(seen) == 1


# --- CheckpointGuardHook --------------------------------------------------------------------


class Segmentor(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.backbone = AdaptedBackbone(TRUNK, dict(type='SIGMA', bottleneck=4))
        self.head = nn.Linear(2, width)
        self.other = nn.Linear(2, 2)


@pytest.fixture
def guarded():
    return SimpleNamespace(model=Segmentor(), hooks=[])


@pytest.mark.parametrize('wrapped', [False, True])
def test_a_fitting_checkpoint_passes(guarded, wrapped):
    state = guarded.model.state_dict()
    if wrapped:
        guarded.model = nn.parallel.DataParallel(guarded.model)
    CheckpointGuardHook().after_load_checkpoint(guarded, {'state_dict': state})
    CheckpointGuardHook().after_load_checkpoint(guarded, state)  # a bare state dict


def missing(state):
    del state['head.bias']


def added(state):
    state['neck.weight'] = torch.zeros(1)


def reshaped(state):
    state['head.weight'] = torch.zeros(5, 2)


@pytest.mark.parametrize(
    ('change', 'words', 'part'),
    [
        (missing, r'1 missing \(head.bias\)', 'head.'),
        (added, r'1 unknown \(neck.weight\)', 'neck.'),
        (reshaped, r'1 misshapen .*head.weight is \(5, 2\), expected \(3, 2\)', 'head.'),
    ],
)
def test_one_that_does_not_fit_is_refused(guarded, change, words, part):
    checkpoint = {'state_dict': guarded.model.state_dict()}
    change(checkpoint['state_dict'])
    with pytest.raises(CheckpointMismatchError, match=words):
        CheckpointGuardHook().after_load_checkpoint(guarded, checkpoint)
    CheckpointGuardHook(ignore=[part]).after_load_checkpoint(guarded, checkpoint)
    with pytest.raises(CheckpointMismatchError):
        CheckpointGuardHook(ignore=['other.']).after_load_checkpoint(guarded, checkpoint)
    guarded.hooks = [CheckpointGuardHook(), CheckpointGuardHook(ignore=[part])]
    for hook in guarded.hooks:  # of which a config may have added the second to its base's
        hook.after_load_checkpoint(guarded, checkpoint)


def test_a_random_trunk_is_not_tested(guarded):
    hook = CheckpointGuardHook()
    with pytest.raises(WeightsError, match=r"backbone would be tested .*weights='random'"):
        hook.before_test(guarded)
    # Unless it has been trained on, or a checkpoint says that these are its weights.
    guarded.model.load_state_dict(guarded.model.state_dict())
    hook.before_test(guarded)
    guarded.model = Segmentor()
    hook.before_train(guarded)
    hook.before_test(guarded)
