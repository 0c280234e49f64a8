"""Successive halving: of each method's settings, the better half by an early validation goes on."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import logs
from mmsigma.experiments.grid import Run
from mmsigma.experiments.metrics import named


def check(runs: Sequence[Run], step: int) -> None:
    """Compare a step with those at which runs validate.

    Raises:
        InvalidSettingError: A run has no validation there.
    """
    for run in runs:
        each = (run.config.get('train_cfg') or {}).get('val_interval')
        if run.steps and each and (step % each or not 0 < step <= run.steps):
            raise InvalidSettingError(
                f'{run.name} has no validation after step {step}: it has one every {each} steps, '
                f'up to {run.steps}.'
            )


def choose(
    runs: Sequence[Run], scores: Mapping[str, float], metric: str
) -> tuple[list[Run], list[Run], list[Run]]:
    """Divide the runs: those that go on, those left out, those of methods that are not as far.

    A method is halved for each trunk and seed, once all its settings have a score. Of an odd
    number the larger part goes on.
    """
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        if not run.problem:
            groups.setdefault((run.model, run.seed), []).append(run)
    sign = 1 if named(metric).lower else -1
    bad = {name: math.inf if math.isnan(x) else sign * x for name, x in scores.items()}
    on: list[Run] = []
    out: list[Run] = []
    early: list[Run] = []
    for group in groups.values():
        if any(run.name not in scores for run in group):
            early += group
            continue
        group.sort(key=lambda run: bad[run.name])
        half = (len(group) + 1) // 2
        on += group[:half]
        out += group[half:]
    return on, out, early


def apply(
    whole: Sequence[Run], asked: Sequence[Run], work_dir: Path, metric: str, steps: Sequence[int]
) -> tuple[list[Run], list[str]]:
    """Halve a grid by one validation after another.

    Args:
        whole: The runs of the grid.
        asked: Those to choose from.
        work_dir: The folders of the runs are in there.
        metric: What the grid compares.
        steps: Of the validations.

    Returns:
        The runs that were asked for and go on, and a line on each other one, or on its method.

    Raises:
        InvalidSettingError: A run has no validation at one of the steps.
    """
    kept, lines = list(whole), []
    names = {run.name for run in asked}
    for step in steps:
        check(whole, step)
        scores = {
            run.name: line[metric]
            for run in kept
            for line in logs.scalars(work_dir / run.name)[1]
            if line['step'] == step and metric in line
        }
        kept, out, early = choose(kept, scores, metric)
        lines += [
            f'left out by halving: {run.name} ({metric} {scores[run.name]:g})'
            for run in out
            if run.name in names
        ]
        methods = ', '.join(dict.fromkeys(run.model for run in early if run.name in names))
        if methods:
            lines.append(f'no validation of all settings after step {step} (--until): {methods}')
    on = {run.name for run in kept}
    return [run for run in asked if run.name in on or run.problem], lines
