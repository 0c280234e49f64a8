"""Recipes: configs that compose base files, one of each kind.

::

    _base_ = [trunk, tuner, head, data set, schedule, runtime]   # files below _base_
    from mmsigma.config import connect

    model = connect(_base_)                                      # what follows from them

:func:`text` writes a recipe, :func:`compose` gives the config of a recipe with another trunk, tuner
or head in its place.
"""

import ast
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mmengine.config import Config, ConfigDict

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

# Folders of base files, in the order in which a recipe names them, and what only files of each kind
# have.
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


def find(kind: str, name: str, folders: Iterable[Path]) -> Path:
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


def kind_of(path: Path) -> str:
    """The kind of a base file, one of :data:`KINDS`; empty where it is none of them."""
    if path.parent.name in KINDS:
        return path.parent.name
    content = parsed(path)
    return next((kind for kind, name in KINDS.items() if name in content), '')


def text(bases: Iterable[Path], folder: Path | None = None) -> str:
    """The recipe of some base files, as a file in ``folder``; with absolute paths, anywhere."""
    bases = list(bases)
    names = [
        Path(os.path.relpath(path, folder) if folder else os.path.abspath(path)).as_posix()
        for path in bases
    ]
    lines = ['_base_ = [', *(f'    {name!r},' for name in names), ']']
    if any('full_decay_rate' in parsed(path) for path in bases):
        lines += ['from mmsigma.config import connect, rates', '', 'model = connect(_base_)']
        lines += ['optim_wrapper = rates(_base_)']
    else:
        lines += ['from mmsigma.config import connect', '', 'model = connect(_base_)']
    return '\n'.join([*lines, ''])


def exchange(bases: Sequence[Path], parts: Mapping[str, str | None]) -> list[Path]:
    """Base files with others in their place, and the data set that is for their head.

    Args:
        bases: One of each kind; of schedules there may be more.
        parts: Names of base files, or paths, by kind; those of kinds without a name stay.

    Raises:
        UnknownNameError: No such base file.
        InvalidSettingError: A head for another task than the data.
    """
    chosen = {kind_of(path): path for path in bases}
    folders = list(dict.fromkeys(path.parent.parent for path in bases))
    given = {kind: name for kind, name in parts.items() if name is not None}
    chosen |= {kind: find(kind, name, folders) for kind, name in given.items()}
    chosen['datasets'] = _data_for(chosen['heads'], chosen['datasets'], folders)
    several = ('schedules', '')
    return [path if kind_of(path) in several else chosen[kind_of(path)] for path in bases]


def _data_for(head: Path, data: Path, folders: Iterable[Path]) -> Path:
    """The file of the same data set that is for the task of a head."""
    task, has = task_of_head(head), task_of_data(data)
    if task == has:
        return data
    # Data for several tasks is in a file for each, of which all or all but one end in the task.
    stem = data.stem.removesuffix(f'_{has}')
    for name in (f'{stem}_{task}', stem):
        path = data.with_name(f'{name}.py')
        if path.is_file() and task_of_data(path) == task:
            return path
    heads = sorted({path for folder in folders for path in (folder / 'heads').glob('*.py')})
    raise InvalidSettingError(
        f'Head {head.stem} is for {task}, the data {data.stem} for {has}. Heads for it: '
        f'{", ".join(path.stem for path in heads if task_of_head(path) == has)}.'
    )


def compose(path: Path, parts: Mapping[str, str | None]) -> Config:
    """The config of a recipe, or of a config on top of one, with other parts.

    Args:
        path: A recipe, or a config whose one ``_base_`` is such a config.
        parts: As in :func:`exchange`.

    Returns:
        What the recipe of these parts gives, by the name that it would have.

    Raises:
        UnknownNameError, InvalidSettingError: See :func:`exchange`, and a config without a recipe.
    """
    config = _composed(path, parts)
    name = path.with_name(f'{_name(path.stem, parts)}.py')
    return Config(config.to_dict(), cfg_text=config.text, filename=name)


def _composed(path: Path, parts: Mapping[str, str | None]) -> Config:
    """What MMEngine would read from a file whose ``_base_`` names the other parts."""
    code = _filled(path)
    tree = ast.parse(code, str(path))
    bases = [Path(os.path.abspath(path.parent / name)) for name in _take_bases(tree)]
    if _connects(tree) and {'trunks', 'tuners', 'heads', 'datasets'} <= set(map(kind_of, bases)):
        config = _merged(exchange(bases, parts))
    elif len(bases) == 1 and not _connects(tree):
        config = _composed(bases[0], parts)
    else:
        raise InvalidSettingError(
            f'{path} does not connect a trunk, a tuner, a head and data from files, so none can be '
            'changed by name. Name a file of each in _base_ and write, below it,\n\n'
            'from mmsigma.config import connect\n\nmodel = connect(_base_)\n\n'
            'Settings of your own can follow, or stand in a config whose one _base_ is this one.'
        )
    values: dict[str, Any] = {'_base_': ConfigDict(config.to_dict())}
    exec(compile(tree, str(path), 'exec'), values)
    own = {
        name: value
        for name, value in values.items()
        if not name.startswith('__') and not isinstance(value, FunctionType | ModuleType)
    }
    del own['_base_']
    # A dict that stands in two places becomes two, since merging takes `_delete_` out of it.
    config.merge_from_dict(Config(own).to_dict(), allow_list_keys=False)
    return Config(config.to_dict(), cfg_text=f'{config.text}\n{path}\n{code}')


def _merged(bases: Iterable[Path]) -> Config:
    """What some base files say together."""
    content: dict[str, Any] = {}
    texts = []
    for path in bases:
        config = Config.fromfile(path)
        twice = content.keys() & config.keys()
        if twice:
            raise InvalidSettingError(
                f'{path} has {", ".join(sorted(twice))}, and so has a base file before it. Each '
                'name belongs to one of them.'
            )
        content |= config.to_dict()
        texts.append(config.text)
    return Config(content, cfg_text='\n'.join(texts))


def _take_bases(tree: ast.Module) -> list[str]:
    """The names in ``_base_``, whose assignment is taken out of the code."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            tree.body.remove(node)
            names = ast.literal_eval(node.value)
            return [names] if isinstance(names, str) else list(names)
    return []


def _connects(tree: ast.Module) -> bool:
    """Whether ``model`` is, or is made of, what :func:`mmsigma.config.connect` returns."""
    return any(
        isinstance(call, ast.Call)
        and 'connect' in (getattr(call.func, 'id', ''), getattr(call.func, 'attr', ''))
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == 'model'
        for call in ast.walk(node.value)
    )


def _filled(path: Path) -> str:
    """The code of a config, with what MMEngine fills in between double braces."""
    place = Path(os.path.abspath(path))
    code = path.read_text()
    names = {
        'fileDirname': place.parent.as_posix(),
        'fileBasename': place.name,
        'fileBasenameNoExtension': place.stem,
        'fileExtname': place.suffix,
    }
    code = re.sub(r'\{\{\s*(file\w+)\s*\}\}', lambda found: names.get(found[1], found[0]), code)
    variable = r'\{\{[\'"]?\s*\$(\w+)\s*:\s*(\S*?)\s*[\'"]?\}\}'
    code = re.sub(variable, lambda found: os.environ.get(found[1], found[2]), code)
    return re.sub(r'\{\{\s*(_base_\.[\w.]+)\s*\}\}', r'\1', code)


def _name(stem: str, parts: Mapping[str, str | None]) -> str:
    """The name of a changed recipe; that of another config gets the parts at its end."""
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
