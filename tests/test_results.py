"""Tables of committed records: each page holds what its command writes."""

import re
import shlex
from pathlib import Path

import pytest
import table
from mmengine.config import Config

from mmsigma.config import combinations, recipe, setting
from mmsigma.experiments import formats, grid, pages, published, tables
from tests.fixtures import ROOT
from tests.sample import sampled

# As `--write` wrote them, in the documentation and beside the records.
PLACES = [
    (page, shlex.split(command))
    for page in sorted([*(ROOT / 'docs').glob('*.md'), *(ROOT / 'results').rglob('*.md')])
    for command in re.findall(r'(?m)^<!-- table: python tools/table.py (.*?) -->', page.read_text())
]
BASE = ROOT / 'configs/_base_'
FIGURES = published.read(ROOT / 'results/published.yaml')
TRUNKS = ['swin-l-w7', 'swin-b-w7', 'dinov2-l', 'dinov2-b', 'dinov2-s']
# What the evaluators of these leaves report.
METRICS = {
    'ade20k': {'mIoU'},
    'coco': {'coco/bbox_mAP', 'coco/segm_mAP'},
    'gta': {'mIoU', 'cityscapes/mIoU', 'bdd100k/mIoU', 'mapillary/mIoU'},
}
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
    _, made = table.contents(args, tables.load(args.records))
    tool = ' '.join(['tools/table.py', *args.records])
    again = pages.fill(page.read_text(), tool, formats.markdown(made).strip())
    assert again == page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_records_belong_to_runs_of_their_grid(folder: Path) -> None:
    runs, metric = grid.read(ROOT / f'configs/grids/{folder.name}.py')
    names = {run.name for run in runs}
    for record in tables.load([folder]):
        assert record['run'] in names
        assert metric in record['validation'][-1] and record['commit'] and record['device']


def settings_of_leaves(trunk: str, folder: Path) -> dict[tuple[str, str], tuple[str, dict]]:
    """By benchmark and head, the folder of the leaf with this trunk and what its run is about."""
    found = {}
    for benchmark, about in combinations.benchmarks(BASE).items():
        if about['folder'] in METRICS:
            for head in combinations.heads(BASE, about['data']):
                _, bases = combinations.compose(BASE, benchmark, 'frozen', trunk, head)
                path = folder / f'{benchmark}_{head}.py'
                path.write_text(recipe.text(bases))
                config = Config.fromfile(path)
                found[benchmark, head] = about['folder'], setting.of(config)
    return found


@pytest.mark.parametrize('trunk', sampled(TRUNKS, 'dinov2-s'.__eq__))
def test_published_figures_have_leaves_to_stand_beside(trunk: str, tmp_path: Path) -> None:
    """A figure whose trunk, head or data are called otherwise than a run's would never be shown."""
    known = recipe.parsed(BASE / f'trunks/{trunk}.py').trunk.model_name
    groups = [g for g in FIGURES if known in published.names(g['trunk'])]
    assert groups
    composed = settings_of_leaves(trunk, tmp_path)
    for group in groups:
        for method in group['values']:
            fitting = [
                (benchmark, method, trunk, head)
                for (benchmark, head), (folder, about) in composed.items()
                if group['metric'] in METRICS[folder]
                and published.find(FIGURES, {'setting': about, 'method': method}, group['metric'])
            ]
            assert fitting
            names = combinations.names(BASE, fitting[0][0], method, trunk, fitting[0][3])
            assert list(names) == fitting[:1]


def test_every_group_of_published_figures_is_of_a_trunk_above() -> None:
    files = {recipe.parsed(BASE / f'trunks/{name}.py').trunk.model_name for name in TRUNKS}
    assert all(files & set(published.names(group['trunk'])) for group in FIGURES)
