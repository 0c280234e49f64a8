"""What the pages name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
MADE = {'configs/grids/mine.py'}  # by the reader


def expanded(path: str) -> Iterator[str]:
    """``a{b,c}`` as the shell reads it."""
    braces = re.search(r'\{([^{}]*)\}', path)
    if braces is None:
        yield path
        return
    for choice in braces[1].split(','):
        yield from expanded(path[: braces.start()] + choice + path[braces.end() :])


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_configs_exist(page: Path) -> None:
    """All but patterns, as in ``configs/<folder>/<tuner>_<trunk>.py``."""
    named = re.findall(r'configs/[^\s`)|"\']*\.py\b', page.read_text(encoding='utf-8'))
    paths = {path for name in named if '<' not in name for path in expanded(name)} - MADE
    assert [path for path in sorted(paths) if not list(ROOT.glob(path))] == []


def test_braces() -> None:
    assert list(expanded('a{b,c}d{e,f}')) == ['abde', 'abdf', 'acde', 'acdf']
