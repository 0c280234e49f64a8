"""Refuses what does not fit the loop, and settings that a resumed run would not read."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.runner import EpochBasedTrainLoop

from mmsigma.engine.hooks.loop_check import LoopCheckHook
from mmsigma.errors import InvalidSettingError
from mmsigma.registry import HOOKS

# Samplers of mmdet that have no end; MMEngine's and ours are InfiniteSamplers.
_ENDLESS = ('MultiSourceSampler', 'GroupMultiSourceSampler')
# What a scheduler or an optimiser counts while it runs, as opposed to how it was set.
_COUNTED = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose', 'lr', 'params'}


@HOOKS.register_module()
class ScheduleCheckHook(LoopCheckHook):
    """Says before the first step what would train in vain, or for ever.

    MMEngine lets a sampler without an end meet a loop that waits for it; a schedule count epochs in
    a loop that has none, or end long before the loop; and a resumed run takes optimiser and
    schedule from the checkpoint, whatever its config says.

    ``_base_/runtime`` has it for every run.
    """

    priority = 'VERY_HIGH'

    def check(self, runner: Any, name: str, loop: Any) -> None:
        """Refuse a sampler without an end in a loop that goes through the data.

        Raises:
            InvalidSettingError: It would go on for ever.
        """
        if name == 'train_dataloader' and not isinstance(loop, EpochBasedTrainLoop):
            return
        for sampler in (loop.dataloader.sampler, loop.dataloader.batch_sampler):
            if isinstance(sampler, InfiniteSampler) or type(sampler).__name__ in _ENDLESS:
                raise InvalidSettingError(
                    f'{name} draws with {type(sampler).__name__}, which has no end, and '
                    f'{type(loop).__name__} goes on until there is one. Take '
                    f"{name}.sampler=dict(type='DefaultSampler', shuffle=...), or, to train, an "
                    'IterBasedTrainLoop.'
                )

    def before_train(self, runner: Any) -> None:
        """Compare samplers, checkpoints and schedules with the loops.

        Raises:
            InvalidSettingError: A sampler without an end in a loop that goes through the data, or
                checkpoints or a schedule of epochs in a loop of iterations, or a rate that is
                zero for a part of the training.
        """
        super().before_train(runner)
        loop = runner.train_loop
        epochs = isinstance(loop, EpochBasedTrainLoop)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.by_epoch and not epochs:
                raise InvalidSettingError(
                    f'{type(hook).__name__} saves by epochs, as is the default, and '
                    f'{type(loop).__name__} has none, so nothing would be saved on the way. Set '
                    'default_hooks.checkpoint.by_epoch=False, and its interval in iterations.'
                )
        found = list(_schedulers(runner))
        for name, scheduler in found:
            if scheduler.by_epoch and not epochs:
                raise InvalidSettingError(
                    f'{name} ({type(scheduler).__name__}) counts epochs, as is the default, and '
                    f'{type(loop).__name__} has none, so it would never change anything. Set '
                    f'{name}.by_epoch=False, and its begin and end in iterations.'
                )
        ends = [
            (each.end, loop.max_epochs if each.by_epoch else loop.max_iters, name, each)
            for name, each in found
            if each.end != INF
        ]
        if not ends:
            return
        end, length, name, scheduler = max(ends, key=lambda found: found[0] / found[1])
        unit = 'epochs' if scheduler.by_epoch else 'iterations'
        if end < length and _reaches_zero(scheduler):
            raise InvalidSettingError(
                f'{name} ({type(scheduler).__name__}) ends at zero after {end} {unit}, but the '
                f'training has {length}: the others would change nothing. Set {name}.end={length}, '
                f'or the length of train_cfg to {end}.'
            )
        if end > length:
            print_log(
                f'{name} ({type(scheduler).__name__}) ends after {end} {unit}, the training after '
                f'{length}: the rate does not reach its end.',
                logger='current',
                level=logging.WARNING,
            )

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare optimiser and schedules with those that the checkpoint will put in their place.

        Raises:
            InvalidSettingError: The run goes on with other settings than the config's.
        """
        if not runner.cfg.get('resume'):
            return
        differing = list(_optimizer_changes(runner, checkpoint))
        differing += _schedule_changes(runner, checkpoint)
        if differing:
            more = f', and {len(differing) - 6} more' if len(differing) > 6 else ''
            raise InvalidSettingError(
                'A resumed run goes on with the optimiser and the schedule of its checkpoint, so '
                f'the config would not be followed: {"; ".join(differing[:6])}{more}. Give the '
                'config the settings of before; or, for a new schedule from these weights, leave '
                '--resume out and set load_from to the checkpoint, with another --work-dir.'
            )


def _schedulers(runner: Any) -> Iterator[tuple[str, Any]]:
    """The schedulers of a run, by their place in its config."""
    found = getattr(runner, 'param_schedulers', None) or []
    for part, schedulers in found.items() if isinstance(found, Mapping) else [('', found)]:
        for number, scheduler in enumerate(schedulers):
            yield '.'.join(filter(None, ['param_scheduler', part, str(number)])), scheduler


def _reaches_zero(scheduler: Any) -> bool:
    """Whether the last value of a rate is zero, by the settings that MMEngine's classes have."""
    lowest = getattr(scheduler, 'eta_min', None), getattr(scheduler, 'eta_min_ratio', None)
    return 0 in lowest or getattr(scheduler, 'end_factor', None) == 0


def _optimizer_changes(runner: Any, checkpoint: Mapping[str, Any]) -> Iterator[str]:
    saved = checkpoint.get('optimizer') or {}
    if not isinstance(runner.optim_wrapper, OptimWrapper) or 'param_groups' not in saved:
        return
    seen: set[str] = set()
    groups = zip(runner.optim_wrapper.optimizer.param_groups, saved['param_groups'], strict=False)
    for own, other in groups:
        counted = _COUNTED if 'initial_lr' in own else _COUNTED - {'lr'}
        for name in sorted((own.keys() & other.keys()) - counted):
            value, before = own[name], other[name]
            plain = isinstance(value, int | float | tuple) and not isinstance(value, bool)
            if plain and value != before and name not in seen:
                seen.add(name)
                where = name.replace('initial_lr', 'lr')
                yield f'optimizer {where} is {value} in the config, {before} in the checkpoint'


def _schedule_changes(runner: Any, checkpoint: Mapping[str, Any]) -> Iterator[str]:
    found = dict(_schedulers(runner))
    saved = checkpoint.get('param_schedulers') or []
    states = {
        '.'.join(filter(None, ['param_scheduler', part, str(number)])): state
        for part, several in (saved.items() if isinstance(saved, Mapping) else [('', saved)])
        for number, state in enumerate(several)
    }
    if len(found) != len(states):
        yield f'the config has {len(found)} schedulers, the checkpoint {len(states)}'
    for name in found.keys() & states.keys():
        own = found[name].state_dict()
        for key in sorted((own.keys() & states[name].keys()) - _COUNTED):
            value, before = own[key], states[name][key]
            plain = isinstance(value, int | float | str | bool | None)
            if plain and value != before:
                yield f'{name}.{key} is {value} in the config, {before} in the checkpoint'
