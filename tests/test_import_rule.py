"""The import rule of the package, read from its files.

::

    base <- kernels | injection <- tuners | trunks | necks | datasets <- checkpoint <- backbone
         <- the rest
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmsigma

PACKAGE = Path(mmsigma.__file__).parent

# What a part may import, besides itself (a file or a folder); nothing else of mmsigma. A part
# that is not here has no place yet: give it one.
BASE = {'version', 'layout', 'errors', 'dependencies', 'registry'}
MAY_IMPORT: dict[str, set[str]] = {
    '__init__': {'dependencies', 'version'},
    'version': set(),
    'layout': set(),
    'errors': set(),
    'files': set(),
    'reach': set(),
    'deferred': set(),
    'dependencies': set(),
    'registry': {'errors'},
    'recompute': set(),
    'compiled': {'errors'},
    'graphs': set(),
    'kernels': {'layout'},
    'injection': BASE | {'recompute', 'compiled'},
    'tuners': BASE | {'injection', 'kernels'},
    'trunks': BASE | {'injection', 'recompute'},
    'necks': BASE,
    'heads': BASE,
    'datasets': BASE,
    'checkpoint': BASE,
    'backbone': BASE | {'compiled', 'graphs', 'injection', 'tuners', 'trunks', 'checkpoint'},
    'adapter_files': BASE | {'files', 'checkpoint', 'backbone'},
    'merge': BASE | {'injection', 'trunks', 'backbone'},
    'merged_files': BASE | {'tuners', 'backbone', 'hooks', 'merge'},
    'one_pass': BASE | {'injection', 'trunks', 'backbone'},
    'tasks': BASE | {'trunks', 'backbone', 'hooks', 'merge', 'one_pass'},
    'prediction_files': BASE | {'files', 'datasets', 'evaluation'},
    'visualization': BASE | {'files'},
    'optim': BASE | {'backbone'},
    'evaluation': BASE | {'files', 'datasets'},
    'distributed': BASE | {'files', 'reach', 'backbone'},
    'hooks': BASE | {'files', 'datasets', 'backbone', 'distributed'},
    'prepare': BASE | {'files'},
    'analysis': BASE | {'files', 'datasets', 'backbone', 'leaves'},
    'leaf_model': BASE,
    'leaves': BASE | {'leaf_model'},
    'launch': BASE | {'deferred', 'files', 'datasets', 'backbone', 'leaves', 'distributed'},
}
# Inside these folders, files see only the folder's contract; the __init__ collects them all.
SIBLINGS = {
    'tuners': {'base', 'depthwise', 'layers'},
    'trunks': {
        'base',
        'int8',
        'layouts',
        'mmpretrain_models',
        'position',
        'release_layout',
        'swin_prompts',
        'timm_models',
        'transformers_layout',
        'weights',
        'windows',
    },
    'necks': set(),
}
# Of the frameworks, under their own names: forks and originals share them.
OPENMMLAB = {'mmengine', 'mmcv'}
INSIDE_FUNCTIONS = {'mmpretrain'}


def imports(tree: ast.AST, top: bool = True) -> Iterator[tuple[str, bool]]:
    """Imported modules, and whether each is imported when its file is."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, 'relative import'
            # In `from mmsigma.trunks import weights`, what is imported is a module too.
            yield from ((f'{node.module}.{alias.name}', top) for alias in node.names)
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, top and not inner)


def allowed(place: tuple[str, ...], name: str, at_import: bool, package: Path) -> bool:
    """Whether the file at ``place`` may import ``name``."""
    part, own = place[0], place[-1]
    root, *rest = name.split('.')
    if root == 'mmsigma' and rest:
        target, file = rest[0], (rest[1:] or [''])[0]
        if target == part:
            is_file = (package / part / f'{file}.py').exists()
            return own == '__init__' or not is_file or file in SIBLINGS.get(part, {file})
        # Of tuners and trunks, others know the contract only.
        contract_only = target in ('tuners', 'trunks') and file != 'base'
        return target in MAY_IMPORT[part] and not contract_only
    if root.startswith(('mm', 'onedl')) and root != 'mmsigma':
        return root in OPENMMLAB or (root in INSIDE_FUNCTIONS and not at_import)
    return True


def violations(package: Path) -> list[str]:
    """Every import below ``package`` that breaks the rule."""
    found = []
    for file in sorted(package.rglob('*.py')):
        place = file.relative_to(package).with_suffix('').parts
        if place[0] not in MAY_IMPORT:
            found.append(f'{place[0]}: has no place in the rule')
            continue
        for name, at_import in imports(ast.parse(file.read_text())):
            if not allowed(place, name, at_import, package):
                found.append(f'{"/".join(place)}: {name}')
    return found


def test_rule_holds() -> None:
    assert violations(PACKAGE) == []


def test_every_part_of_the_rule_exists() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
    assert MAY_IMPORT.keys() <= parts


@pytest.mark.parametrize(
    ('file', 'line'),
    [
        ('tuners/lora.py', 'from mmsigma.trunks.base import Trunk'),
        ('tuners/lora.py', 'from mmsigma.tuners.sigma import SIGMA'),
        ('tuners/lora.py', 'from mmsigma.tuners import sigma'),
        ('tuners/lora.py', 'import mmsigma.backbone'),
        ('tuners/__init__.py', 'from mmsigma import trunks'),
        ('trunks/swin.py', 'from mmsigma.tuners.base import Tuner'),
        ('trunks/swin.py', 'from mmsigma.trunks.timm_vit import TimmViT'),
        ('trunks/swin.py', 'from mmpretrain.models import SwinTransformer'),
        ('trunks/swin.py', 'if True:\n    import mmpretrain'),
        ('trunks/swin.py', 'def f():\n    from mmsigma import backbone'),
        ('injection.py', 'from mmsigma.tuners.base import Tuner'),
        ('errors.py', 'from mmsigma.registry import MODELS'),
        ('checkpoint.py', 'from mmsigma.backbone import AdaptedBackbone'),
        ('hooks/more.py', 'from mmsigma import checkpoint'),
        ('hooks/more.py', 'from mmsigma.launch import run'),
        ('backbone.py', 'from mmsigma.tuners.sigma import SIGMA'),
        ('backbone.py', 'from mmsigma import hooks'),
        ('necks/more.py', 'from mmseg.registry import MODELS'),
        ('analysis/more.py', 'def f():\n    import mmdet'),
        ('datasets/more.py', 'from onedl_mmengine import Config'),
        ('extras.py', 'import torch'),
    ],
)
def test_rule_sees(file: str, line: str, tmp_path: Path) -> None:
    for original in PACKAGE.rglob('*.py'):
        copy = tmp_path / original.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    assert violations(tmp_path) == []
    (tmp_path / file).write_text(line)
    assert len(violations(tmp_path)) == 1


def test_rule_lets_pass(tmp_path: Path) -> None:
    (tmp_path / 'trunks').mkdir()
    (tmp_path / 'trunks' / 'swin.py').write_text(
        'import torch, mmcv, mmengine.config\n'
        'from mmsigma.trunks import weights as files\n'
        'from mmsigma.trunks.base import Trunk\n'
        'from mmsigma.injection import Block\n'
        'def f():\n    from mmpretrain.models import SwinTransformer\n'
    )
    assert violations(tmp_path) == []
