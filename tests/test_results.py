"""Tables of committed records: each page holds what its command writes."""

import json
import re
import shlex
from pathlib import Path

import pytest

from mmsigma.analysis import grid, pages, tables
from tests.fixtures import ROOT

PLACES = [
    (page, shlex.split(command))
    for page in sorted((ROOT / 'docs').glob('*.md'))
    for command in re.findall(r'<!-- table: python tools/table.py (.*?) -->', page.read_text())
]
FOLDERS = sorted(path for path in (ROOT / 'results').iterdir() if path.is_dir())


def test_every_folder_of_records_has_its_table() -> None:
    assert {ROOT / words[0] for _, words in PLACES} == set(FOLDERS)


@pytest.mark.parametrize(('page', 'words'), PLACES, ids=[words[0] for _, words in PLACES])
def test_the_command_gives_the_table(page: Path, words: list[str]) -> None:
    cost = None
    if '--cost' in words:
        (case,) = json.loads((ROOT / words[words.index('--cost') + 1]).read_text())['cases']
        cost = case['variants']
    metric = words[words.index('--metric') + 1] if '--metric' in words else 'mIoU'
    assert ROOT / words[words.index('--write') + 1] == page
    table = tables.markdown(tables.rows(tables.load([ROOT / words[0]]), metric, cost), metric)
    assert pages.fill(page.read_text(), f'tools/table.py {words[0]}', table.strip()) == (
        page.read_text()
    )


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_records_belong_to_runs_of_their_grid(folder: Path) -> None:
    runs, metric = grid.read(ROOT / f'configs/grids/{folder.name}.py')
    names = {run.name for run in runs}
    for record in tables.load([folder]):
        assert record['run'] in names
        assert metric in record['test'] and record['commit'] and record['device']
