"""Tables of committed records: each page holds what its command writes."""

import re
import shlex
from pathlib import Path

import pytest
import table

from mmsigma.analysis import formats, grid, pages, tables
from tests.fixtures import ROOT

# As `--write` wrote them, in the documentation and beside the records.
PLACES = [
    (page, shlex.split(command))
    for page in sorted([*(ROOT / 'docs').glob('*.md'), *(ROOT / 'results').rglob('*.md')])
    for command in re.findall(r'(?m)^<!-- table: python tools/table.py (.*?) -->', page.read_text())
]
FOLDERS = sorted(path for path in (ROOT / 'results').iterdir() if path.is_dir())


def test_every_folder_of_records_has_its_table() -> None:
    assert {ROOT / words[0] for _, words in PLACES} == set(FOLDERS)


@pytest.mark.parametrize(('page', 'words'), PLACES, ids=[f'{p.stem}-{w[0]}' for p, w in PLACES])
def test_the_command_gives_the_table(
    page: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    args = table.parse_args(words)
    assert ROOT / args.write == page
    _, _, sheet = table.contents(args)
    tool = ' '.join(['tools/table.py', *args.records])
    again = pages.fill(page.read_text(), tool, formats.write(sheet).strip())
    assert again == page.read_text()


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_records_belong_to_runs_of_their_grid(folder: Path) -> None:
    runs, metric = grid.read(ROOT / f'configs/grids/{folder.name}.py')
    names = {run.name for run in runs}
    for record in tables.load([folder]):
        assert record['run'] in names
        assert metric in record['validation'][-1] and record['commit'] and record['device']
