"""The code that a tuner computes with, as a hash."""

import ast
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmsigma.config.digest import digest


def code(config: Mapping[str, Any]) -> str | None:
    """A short hash of the source of a run's tuner, as it is on disk; None where there is none.

    Comments, docstrings, imports and errors do not count, so that it outlives a move of files. It
    covers the tuner's module and what this imports from its own package.
    """
    from mmsigma.registry import TUNERS

    backbone = (config.get('model') or {}).get('backbone') or {}
    kind = (backbone.get('tuner') or {}).get('type')
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
        found[name] = ast.dump(_Bare().generic_visit(tree))
    return sorted(found.values())


class _Bare(ast.NodeTransformer):
    """Leaves what computes: no import, no message, no docstring."""

    def visit(self, node: ast.AST) -> ast.AST | None:
        """Drop a statement, or go on inside of it."""
        if isinstance(node, ast.Expr):
            value = node.value
            text = isinstance(value, ast.Constant) and isinstance(value.value, str)
            return None if text else node
        dropped = isinstance(node, ast.Import | ast.ImportFrom | ast.Raise)
        return None if dropped else self.generic_visit(node)
