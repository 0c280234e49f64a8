"""What runs must share to stand in one table: data, schedule, precision, and code of a method.

A record has a short hash of each (of precision, the words). What a method's own options say is
compared within the method alone: there it is what the grid is about.
"""

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    from mmsigma.experiments.grid import digest

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


def code(config: Mapping[str, Any]) -> str | None:
    """A short hash of the source of a run's tuner, as it is on disk; None where there is none.

    Comments, docstrings, imports and errors do not count, so that it outlives a move of files. It
    covers the tuner's module and what this imports from its own package.
    """
    from mmsigma.experiments.grid import digest
    from mmsigma.registry import TUNERS

    kind = _at(config, 'model.backbone.tuner.type')
    if not kind:
        return None
    TUNERS.import_from_location()
    tuner = TUNERS.module_dict.get(str(kind).removeprefix('mmsigma.'))
    return digest(_sources(tuner.__module__))[:8] if tuner else None


def _sources(module: str) -> list[str]:
    package = module.rpartition('.')[0]
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = getattr(sys.modules.get(name), '__file__', None)
        if name in found or not path:
            continue
        tree = ast.parse(Path(path).read_text())
        for node in ast.walk(tree):
            if package and isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module] if node.module.startswith(f'{package}.') else []
        found[name] = ast.dump(_Bare().visit(tree))
    return sorted(found.values())


class _Bare(ast.NodeTransformer):
    """Leaves what computes."""

    def visit_Import(self, node: ast.Import) -> None:
        """No import."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """No import."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """No message."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """No docstring."""
        value = node.value
        text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        return None if text else node


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
