"""Every recipe that there can be: benchmarks x heads x trunks x tuners."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsigma.apis.params import of_trunk
from mmsigma.config import connect, recipe
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

# Settings that cut a trunk to a few blocks, by its family: whether it carries a tuner stays.
_SHORT: dict[str, dict[str, Any]] = {
    'TimmHiera': {'stages': (1, 1, 1, 1)},
    'TimmHieraDet': {'stages': (1, 1, 1, 1)},
    'TimmSwin': {'depths': (2, 2, 2, 2)},
    'TimmGeneric': {'depths': (1, 1, 1, 1)},
}
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

    What cannot be, as ``_base_/refused.py`` has it, is left out.

    Raises:
        UnknownNameError: A pattern that fits nothing.
    """
    refused = recipe.parsed(base / 'refused.py').refused.to_dict()
    known = benchmarks(base)
    trunks = _fitting(base, 'trunks', trunk)
    tuners = _fitting(base, 'tuners', tuner)
    _fitting(base, 'heads', head)
    chosen = [name for name in known if fnmatch(name, benchmark)]
    if not chosen:
        raise UnknownNameError(unknown('benchmark', benchmark, known))
    for name in chosen:
        for own in heads(base, known[name]['data']):
            if fnmatch(own, head):
                for a_trunk in trunks:
                    for a_tuner in tuners:
                        if a_trunk not in refused.get(a_tuner, ()):
                            yield name, a_tuner, a_trunk, own


def _fitting(base: Path, kind: str, pattern: str) -> list[str]:
    known = sorted(path.stem for path in (base / kind).glob('*.py'))
    chosen = [name for name in known if fnmatch(name, pattern)]
    if not chosen:
        raise UnknownNameError(unknown(kind.removesuffix('s'), pattern, known))
    return chosen


def refusals(base: Path) -> dict[str, list[str]]:
    """By tuner, the trunks that cannot carry it; found by building each, cut to a few blocks."""
    tuners = {path.stem: recipe.parsed(path).tuner for path in _files(base, 'tuners')}
    found: dict[str, list[str]] = {}
    for path in _files(base, 'trunks'):
        for name, tuner in tuners.items():
            if refuses(recipe.parsed(path), tuner):
                found.setdefault(name, []).append(path.stem)
    return {name: found[name] for name in sorted(found)}


def refuses(config: Config, tuner: Mapping[str, Any]) -> bool:
    """Whether the trunk of a config cannot carry a tuner."""
    config = copy.deepcopy(config)
    if config.trunk.type.startswith('Timm'):
        short = _SHORT.get(config.trunk.type, {'depth': 2})
        config.trunk.model_args = {**config.trunk.get('model_args', {}), **short}
    try:
        of_trunk(config, tuner)
    except InvalidSettingError:
        return True
    return False


def _files(base: Path, kind: str) -> list[Path]:
    return sorted((base / kind).glob('*.py'))
