"""What runs must share to stand in one table: data, schedule, precision, and code of a method.

A record has a short hash of each (of precision, the words). What a method's own options say is
compared within the method alone: there it is what the grid is about.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmsigma.config.digest import digest
from mmsigma.errors import InvalidSettingError

_SPLITS = ('train', 'val', 'test')
_SECTIONS = {
    'data': (
        *(f'{split}_dataloader' for split in _SPLITS),
        'val_evaluator',
        'test_evaluator',
        'model.test_cfg',
    ),
    # Not `paramwise_cfg`: rates are what a table chooses.
    'schedule': (
        'train_cfg',
        'param_scheduler',
        'optim_wrapper.optimizer',
        'optim_wrapper.clip_grad',
        'optim_wrapper.accumulative_counts',
    ),
    'precision': ('optim_wrapper.type', 'model.backbone.autocast', 'model.backbone.trunk.dtype'),
}
# Of a loader and an optimiser, what changes no figure or is an axis of the grid.
_FREE = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'lr')
_OWN = 'own '
_PLAIN = 'OptimWrapper'


def of(config: Mapping[str, Any], own: Iterable[str] = ()) -> dict[str, str]:
    """The protocol of a run, without its code.

    Args:
        config: The run's, as plain values.
        own: Dotted names of the options that its method alone has.
    """
    found = {}
    for section, names in _SECTIONS.items():
        values = {name: _at(config, name) for name in names}
        text = _precision(values) if section == 'precision' else digest(values)[:8]
        mine = any(_related(option, name) for option in own for name in names)
        found[section] = f'{_OWN if mine else ""}{text}'
    return found


def _at(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for key in name.split('.'):
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return {key: inner for key, inner in value.items() if key not in _FREE}
    return value


def _precision(values: Mapping[str, Any]) -> str:
    named = {name.rpartition('.')[2]: value for name, value in values.items()}
    wrapper = str(named.pop('type') or _PLAIN).rpartition('.')[2]
    words = [] if wrapper == _PLAIN else [wrapper]
    words += [f'{name} {value}' for name, value in named.items() if value]
    return ', '.join(words) or 'float32'


def _related(option: str, name: str) -> bool:
    """Whether an option changes an entry."""
    if option.rpartition('.')[2] in _FREE:
        return False
    return f'{option}.'.startswith(f'{name}.') or f'{name}.'.startswith(f'{option}.')


def check(records: Sequence[Mapping[str, Any]]) -> None:
    """Compare the protocols of records, as far as they have them.

    Raises:
        InvalidSettingError: They differ where they must not.
    """
    problems = []
    for section in (*_SECTIONS, 'code'):
        scopes: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for record in records:
            value = (record.get('protocol') or {}).get(section)
            if value:
                own = section == 'code' or value.startswith(_OWN)
                scope = (record['method'], record.get('trunk') or '') if own else ()
                scopes.setdefault(scope, {}).setdefault(value, []).append(record['run'])
        problems += [f'- {section}: {_listed(x)}' for x in scopes.values() if len(x) > 1]
    if problems:
        raise InvalidSettingError(
            'Records of different protocols do not belong into one table:\n'
            + '\n'.join(problems)
            + '\nGive folders of one protocol, or run the others anew with tools/grid.py.'
        )


def _listed(groups: Mapping[str, Sequence[str]]) -> str:
    """What is shared by which runs, the most first."""
    texts = []
    for value, runs in sorted(groups.items(), key=lambda item: -len(item[1])):
        more = f' and {len(runs) - 3} more' if len(runs) > 3 else ''
        texts.append(f'{", ".join(runs[:3])}{more} ({value.removeprefix(_OWN)})')
    return '; '.join(texts)
