"""Leaf configs: files that compose base configs, one of each kind.

::

    _base_ = [trunk, tuner, head, data set, schedule, runtime]   # files below _base_
    model = dict(...)                                            # what follows from them,
    optim_wrapper = dict(...)                                    # and this, for full fine-tuning

:func:`text` writes a leaf, :func:`compose` gives the config of a leaf with another trunk, tuner or
head in its place.
"""

import ast
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsigma.config import recipe_model
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

# Folders of base files, in the order in which a leaf names them, and what only files of each have.
KINDS = {
    'trunks': 'trunk',
    'tuners': 'tuner',
    'heads': 'model',
    'datasets': 'train_dataloader',
    'schedules': 'optim_wrapper',
    'runtime': 'default_hooks',
}
# What heads give and data sets are for.
TASKS = ('semantic', 'depth', 'detection', 'instance', 'panoptic')


@dataclass(frozen=True)
class Leaf:
    """The base files of a leaf.

    Attributes:
        bases: By kind: one of each, and of schedules one or more.
        extra: Python that the leaf has behind what follows from its bases.
    """

    bases: Mapping[str, tuple[Path, ...]]
    extra: str = field(default='')

    def __getitem__(self, kind: str) -> Path:
        """The (first) base file of a kind."""
        return self.bases[kind][0]

    def replaced(self, kind: str, path: Path) -> 'Leaf':
        """This leaf with another base file of one kind."""
        return Leaf({**self.bases, kind: (path,)}, self.extra)

    def paths(self) -> Iterator[Path]:
        """All base files, in order."""
        for kind in KINDS:
            yield from self.bases[kind]


@cache
def parsed(path: Path) -> Config:
    """A base file, read once in a process; nobody may change it."""
    return Config.fromfile(path)


def task_of_head(path: Path) -> str:
    """What the head in a file gives, one of :data:`TASKS`."""
    model = parsed(path).model
    if 'decode_head' in model:
        return 'depth' if model.type == 'DepthEstimator' else 'semantic'
    if model.get('test_cfg', {}).get('panoptic_on'):
        return 'panoptic'
    masks = 'panoptic_head' in model or 'mask_head' in model.get('roi_head', {})
    return 'instance' if masks else 'detection'


def task_of_data(path: Path) -> str:
    """What the data in a file is for, one of :data:`TASKS`: what its training pipeline loads."""
    steps = _pipeline(parsed(path).train_dataloader.dataset)
    names = {step['type'].removeprefix('mmsigma.') for step in steps}
    if 'LoadDepthAnnotation' in names:
        return 'depth'
    if 'PackSegInputs' in names:
        return 'semantic'
    if 'LoadPanoptic' in names:
        return 'panoptic'
    return 'instance' if any(step.get('with_mask') for step in steps) else 'detection'


def _pipeline(dataset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    while 'pipeline' not in dataset:  # a wrapper: Repeat, Concat
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return list(dataset['pipeline'])


def find(kind: str, name: str, folders: Iterator[Path] | list[Path]) -> Path:
    """The base file of this name, or the file itself where a path is given.

    Args:
        kind: One of :data:`KINDS`.
        name: As ``dinov2-b``, or a path ending in ``.py``.
        folders: Such as ``configs/_base_``.

    Raises:
        UnknownNameError: There is no such file.
    """
    single = kind.removesuffix('s')
    advice = f'A {single} of your own is a file: give its path, which ends in .py.'
    known: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / kind).glob('*.py')):
            known.setdefault(path.stem, path)
    if name.endswith('.py'):
        path = Path(os.path.abspath(name))
        if path.is_file() and KINDS[kind] in parsed(path):
            return path
        advice = f'A {single} of your own is a file that has `{KINDS[kind]}` at its top level.'
    elif name in known:
        return known[name]
    raise UnknownNameError(unknown(single, name, known, advice))


def read(path: Path) -> Leaf | None:
    """The leaf in a file; None where its bases are not those of a leaf.

    Raises:
        InvalidSettingError: A leaf whose model, or whose rates, do not follow from its bases.
    """
    code = path.read_text()
    found: dict[str, tuple[Path, ...]] = {}
    for name in _bases(code)[1]:
        base = Path(os.path.abspath(path.parent / name))
        if not base.is_file():
            return None
        kind = _kind(base)
        found[kind] = (*found.get(kind, ()), base)
    if set(found) != set(KINDS) or any(len(v) > 1 for k, v in found.items() if k != 'schedules'):
        return None
    own, expected = _rest(code), body(Leaf(found))
    if not own.startswith(expected):
        what = 'rates' if own.startswith(model(Leaf(found))) else 'a model'
        raise InvalidSettingError(
            f'{path} has {what} of its own, so another trunk, tuner or head cannot take the place '
            f'of those that it has. Had it been\n\n{expected}\nthey could. Put your settings into '
            'a config whose one _base_ is a leaf; tools/configs.py writes leaves.'
        )
    return Leaf(found, own.removeprefix(expected))


def _kind(base: Path) -> str:
    if base.parent.name in KINDS:
        return base.parent.name
    content = parsed(base)
    return next((kind for kind, name in KINDS.items() if name in content), '')


def _bases(code: str) -> tuple[ast.Assign | None, list[str]]:
    """The assignment of ``_base_``, and the names in it."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            names = ast.literal_eval(node.value)
            return node, [names] if isinstance(names, str) else list(names)
    return None, []


def _rest(code: str) -> str:
    """What follows ``_base_``."""
    node, _ = _bases(code)
    lines = code.splitlines(keepends=True)
    return ''.join(lines[(node.end_lineno or 0) if node else 0 :]).lstrip('\n')


def model(leaf: Leaf) -> str:
    """What a leaf of these base files says of its model; see :mod:`mmsigma.config.recipe_model`."""
    return recipe_model.source(*(parsed(leaf[kind]) for kind in ('trunks', 'heads', 'datasets')))


def body(leaf: Leaf) -> str:
    """All that follows from a leaf's base files: its model, and rates where it trains whole."""
    return model(leaf) + recipe_model.rates(parsed(leaf['tuners']), parsed(leaf['schedules']))


def text(leaf: Leaf, folder: Path | None = None) -> str:
    """A leaf as the file that it is in ``folder``, or with absolute paths, anywhere.

    Raises:
        InvalidSettingError: The head is for another number of classes than the data has.
    """
    names = [
        Path(os.path.relpath(path, folder) if folder else os.path.abspath(path)).as_posix()
        for path in leaf.paths()
    ]
    listed = ''.join(f'    {name!r},\n' for name in names)
    return f'_base_ = [\n{listed}]\n\n{body(leaf)}{leaf.extra}'


def changed(leaf: Leaf, parts: Mapping[str, str | None]) -> Leaf:
    """A leaf with other parts, on what its data set has for its head.

    Args:
        leaf: Whose parts stay where none is given.
        parts: Names of base files, or paths, by kind.

    Raises:
        UnknownNameError: No such base file.
        InvalidSettingError: A head for another task than the data.
    """
    folders = list(dict.fromkeys(path.parent.parent for path in leaf.paths()))
    for kind, name in parts.items():
        if name is not None:
            leaf = leaf.replaced(kind, find(kind, name, folders))
    data, task = leaf['datasets'], task_of_head(leaf['heads'])
    has = task_of_data(data)
    if task == has:
        return leaf
    # Data for several tasks is in a file for each, of which all or all but one end in the task.
    stem = data.stem.removesuffix(f'_{has}')
    others = [data.with_name(f'{name}.py') for name in (f'{stem}_{task}', stem)]
    fit = [path for path in others if path.is_file() and task_of_data(path) == task]
    if not fit:
        heads = sorted({path for f in folders for path in (f / 'heads').glob('*.py')})
        raise InvalidSettingError(
            f'Head {leaf["heads"].stem} is for {task}, the data {data.stem} for {has}. Heads for '
            f'it: {", ".join(path.stem for path in heads if task_of_head(path) == has)}.'
        )
    return leaf.replaced('datasets', fit[0])


def compose(path: Path, parts: Mapping[str, str | None]) -> Config:
    """The config of a leaf, or of a config on top of one, with other parts.

    Args:
        path: A leaf, or a config whose one ``_base_`` is such a config.
        parts: As in :func:`changed`.

    Returns:
        What the leaf of these parts gives, by the name that it would have.

    Raises:
        UnknownNameError, InvalidSettingError: See :func:`changed`, and a config without a leaf.
    """
    with tempfile.TemporaryDirectory(prefix='mmsigma-') as folder:
        config = Config.fromfile(_write(path, parts, Path(folder)))
    name = path.with_name(f'{_name(path.stem, parts)}.py')
    return Config(config._cfg_dict, cfg_text=config.text, filename=name)


def _write(path: Path, parts: Mapping[str, str | None], folder: Path) -> Path:
    """The changed leaf, or the config on top of it, as a file in ``folder``."""
    leaf, code = read(path), path.read_text()
    node, names = _bases(code)
    written = folder / f'config_{len(list(folder.iterdir()))}.py'
    if leaf is not None:
        written.write_text(text(changed(leaf, parts)))
        return written
    if node is None or len(names) != 1:
        raise InvalidSettingError(
            f'{path} composes no trunk, tuner and head from files, so none can be changed by name. '
            'Take a leaf, such as those below configs/, or a config whose one _base_ is a leaf.'
        )
    base = _write(Path(os.path.abspath(path.parent / names[0])), parts, folder)
    lines = code.splitlines()
    lines[node.lineno - 1 : node.end_lineno] = [f'_base_ = {str(base)!r}']
    code = '\n'.join(lines)
    code = re.sub(r'\{\{\s*fileDirname\s*\}\}', path.parent.resolve().as_posix(), code)
    written = folder / f'config_{len(list(folder.iterdir()))}.py'
    written.write_text(code)
    return written


def _name(stem: str, parts: Mapping[str, str | None]) -> str:
    """The name of a changed leaf; that of another config gets the parts at its end."""
    given = {
        kind: Path(name).stem if name.endswith('.py') else name
        for kind, name in parts.items()
        if name
    }
    words = stem.split('_')
    if len(words) != 4:
        return '_'.join([stem, *given.values()])
    order = ('tuners', 'trunks', 'heads')
    first = [given.get(kind, word) for kind, word in zip(order, words, strict=False)]
    return '_'.join([*first, words[3]])
