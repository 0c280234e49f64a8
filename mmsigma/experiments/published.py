"""Figures that others published, to stand beside those of runs.

A figure belongs to a method, a trunk, a head, a data set and a metric; where one of these differs
or is not known, a table shows none. See ``results/published.yaml`` for the form of the file.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmsigma.errors import InvalidSettingError

# What a figure was read from; nothing from memory.
TAGS = {
    'V': "read in the authors' own code, log or README",
    'P': 'read off a published plot, ± 0.1',
}
_FIGURE = re.compile(rf'[-+]?\d+(\.\d+)? \[({"|".join(TAGS)})\]')
_SETTING = ('trunk', 'head', 'dataset')
_KEYS = {*_SETTING, 'metric', 'source', 'values'}

Groups = Sequence[Mapping[str, Any]]


def find(groups: Groups, record: Mapping[str, Any], metric: str) -> tuple[str, str, str] | None:
    """The figure of a run's method in its setting, or None.

    Args:
        groups: Of :func:`read`.
        record: Of the run.
        metric: Its name in records.

    Returns:
        The figure as the table shows it; its tag, see :data:`TAGS`; its source, and what differs
        from other recipes.
    """
    setting = record.get('setting') or {}
    for group in groups:
        same = all(setting.get(name) in names(group[name]) for name in _SETTING)
        if same and group['metric'] == metric and record['method'] in group['values']:
            value, tag = str(group['values'][record['method']]).split()
            return value, tag.strip('[]'), group['source']
    return None


def names(entry: Any) -> list[str]:
    """The names that an entry of a group gives: one, or a list."""
    return entry if isinstance(entry, list) else [entry]


def read(path: str | Path) -> Groups:
    """The groups of figures of a YAML file.

    Raises:
        InvalidSettingError: There is no such file, or a group lacks an entry, or a figure has no
            tag of :data:`TAGS`.
    """
    import yaml

    path = Path(path)
    try:
        groups = yaml.safe_load(path.read_text()) or []
    except (OSError, yaml.YAMLError) as error:
        raise InvalidSettingError(f'{path} cannot be read as published figures: {error}') from error
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise InvalidSettingError(f'{path} must hold a list of groups of figures.')
    for number, group in enumerate(groups, 1):
        if set(group) != _KEYS or not all(group.values()):
            raise InvalidSettingError(
                f'{path}, group {number}: needs {", ".join(sorted(_KEYS))}; it has '
                f'{", ".join(sorted(name for name in group if group[name]))}.'
            )
        for method, figure in group['values'].items():
            if not _FIGURE.fullmatch(str(figure)):
                raise InvalidSettingError(
                    f'{path}, group {number}, {method}: {figure!r} must be a number and a tag, '
                    f'[{"] or [".join(TAGS)}]. A figure without a source that can be opened is '
                    'not known: leave it out.'
                )
    return groups
