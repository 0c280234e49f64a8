"""Every recipe that there can be: benchmarks x heads x trunks x tuners."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from mmsigma.config import connect, recipe
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.models.tuners.base import missing

_RUNTIME = {'semantic': 'mmseg', 'depth': 'mmseg_depth'}


def benchmarks(base: Path) -> dict[str, dict[str, Any]]:
    """What recipes can be about, by the end of their names: see ``_base_/benchmarks.py``."""
    return recipe.parsed(base / 'benchmarks.py').benchmarks.to_dict()


def compose(
    base: Path, benchmark: str, tuner: str, trunk: str, head: str
) -> tuple[Path, list[Path]]:
    """The path of a recipe below the folder that holds ``base``, and its base files.

    Args:
        base: Such as ``configs/_base_``.
        benchmark: One of :func:`benchmarks`.
        tuner, trunk, head: Names of base files, or paths of one's own.

    Raises:
        UnknownNameError: Something that does not exist.
        InvalidSettingError: A head for another task or another number of classes than the data.
    """
    known = benchmarks(base)
    if benchmark not in known:
        raise UnknownNameError(unknown('benchmark', benchmark, known))
    about = known[benchmark]
    parts = [
        recipe.find(kind, name, [base])
        for kind, name in (('trunks', trunk), ('tuners', tuner), ('heads', head))
    ]
    task = recipe.task_of_head(parts[2])
    data = [recipe.find('datasets', name, [base]) for name in about['data']]
    fit = [path for path in data if recipe.task_of_data(path) == task]
    if not fit:
        raise InvalidSettingError(
            f'Head {head} is for {task}, {benchmark} for '
            f'{" and ".join(map(recipe.task_of_data, data))}. Heads for it: '
            f'{", ".join(heads(base, about["data"]))}.'
        )
    _check([*parts, fit[0]])
    name = '_'.join([parts[1].stem, parts[0].stem, parts[2].stem, benchmark])
    return base.parent / about['folder'] / f'{name}.py', [
        *parts,
        fit[0],
        recipe.find('schedules', about['schedule'], [base]),
        recipe.find('runtime', _RUNTIME.get(task, 'mmdet'), [base]),
    ]


def _check(paths: Sequence[Path]) -> None:
    """Whether a trunk, a tuner, a head and data can be connected; see :func:`connect`."""
    connect({key: value for path in paths for key, value in recipe.parsed(path).items()})


def heads(base: Path, data: Sequence[str]) -> list[str]:
    """The heads that one of some data sets is for, and whose classes can be made to fit."""
    return list(_heads(base, tuple(data)))


@cache
def _heads(base: Path, data: tuple[str, ...]) -> list[str]:
    others = [recipe.find('trunks', 'dinov2-b', [base]), recipe.find('tuners', 'frozen', [base])]
    found = []
    for path in sorted((base / 'heads').glob('*.py')):
        for name in data:
            dataset = recipe.find('datasets', name, [base])
            if recipe.task_of_data(dataset) == recipe.task_of_head(path):
                try:
                    _check([*others, path, dataset])
                except InvalidSettingError:
                    continue
                found.append(path.stem)
    return found


def names(
    base: Path, benchmark: str = '*', tuner: str = '*', trunk: str = '*', head: str = '*'
) -> Iterator[tuple[str, str, str, str]]:
    """Every combination that can be trained: benchmark, tuner, trunk and head, each by a pattern.

    Left out are trunks that do not provide what a tuner requires.

    Raises:
        UnknownNameError: A pattern that fits nothing.
    """
    known = benchmarks(base)
    trunks = _fitting(base, 'trunks', trunk)
    tuners = _fitting(base, 'tuners', tuner)
    pairs = [(t, u) for t in trunks for u in tuners if not refuses(base, t, u)]
    _fitting(base, 'heads', head)
    chosen = [name for name in known if fnmatch(name, benchmark)]
    if not chosen:
        raise UnknownNameError(unknown('benchmark', benchmark, known))
    for name in chosen:
        for own in heads(base, known[name]['data']):
            if fnmatch(own, head):
                for a_trunk, a_tuner in pairs:
                    yield name, a_tuner, a_trunk, own


def refuses(base: Path, trunk: str, tuner: str) -> bool:
    """Whether a trunk cannot carry a tuner, by the names of their base files."""
    config = recipe.parsed(base / f'trunks/{trunk}.py').trunk
    return bool(missing(config, recipe.parsed(base / f'tuners/{tuner}.py').tuner))


def _fitting(base: Path, kind: str, pattern: str) -> list[str]:
    known = sorted(path.stem for path in (base / kind).glob('*.py'))
    chosen = [name for name in known if fnmatch(name, pattern)]
    if not chosen:
        raise UnknownNameError(unknown(kind.removesuffix('s'), pattern, known))
    return chosen
