"""The command lines of tools/table.py and tools/report.py."""

import re
import shutil

import pytest

from tests.records import record, save


@pytest.fixture
def grid(place, request):
    """Records of three runs, in a folder named like a grid."""
    name = re.sub(r'\W+', '_', request.node.name)
    base, other = ({'test': {'sky': 50.0 + i, 'pole': 10.0, 'never': None}} for i in (0, 2))
    records = [
        record('frozen', share_percent=0, by_class=base, val=(10.0, 20.0)),
        record('lora', seed=0, test=35.0, by_class=other, val=(30.0, 40.0)),
        record('lora', seed=1, test=36.0, by_class=base, val=(32.0, 42.0)),
    ]
    return save(place.root / f'results/{name}', *records).relative_to(place.root)


@pytest.mark.parametrize('style', ['md', 'latex', 'csv'])
def test_formats(place, grid, style, capsys):
    assert place.call('table', grid, '--format', style, '--out', 'table.txt') == 0
    assert capsys.readouterr().out == ''
    text = (place.root / 'table.txt').read_text()
    assert place.call('table', '--metric', 'mIoU', grid, '--format', style) == 0
    assert capsys.readouterr().out == text
    assert text.startswith({'md': '| method', 'latex': '%', 'csv': 'method'}[style])


def test_bad_input(place, grid, capsys, tmp_path):
    wrong = tmp_path / 'wrong.json'
    wrong.write_text('[]')
    for arguments, said in (
        (['--metric', 'mIuO'], 'Known: mIoU'),
        (['--cost', wrong], 'is no result of benchmark.py backbone'),
        (['--published', tmp_path / 'none.yaml'], 'cannot be read'),
        (['--write', tmp_path / 'none.md'], 'There is no page'),
    ):
        assert place.call('table', grid, *arguments) == 1
        assert said in capsys.readouterr().err
    assert place.call('table', grid, '--write', 'page.md', '--format', 'csv') == 2
    assert place.call('report', grid) == 2


def report(place, *words):
    """The page that a command line of tools/report.py writes."""
    assert place.call('report', *words, '--markdown', 'page.md') == 0
    return (place.root / 'page.md').read_text()


def test_report_says_what_was_run_with_what(place, grid):
    text = report(place, grid, '--note', 'Mind this.', '--title', 'Mine')
    for said in (
        '# Mine', f'Written by `python tools/report.py {grid} --note', 'Mind this.',
        '- runs: 3 of 2 methods', '- seeds: 0, 1', '- hardware: A processor, 1 thread',
        '- versions: torch 2.11.0', '- commit: abc1234', '- times and memory: of the runs',
    ):  # fmt: skip
        assert said in text
    assert re.findall(r'figures/(\w+)\.png', text) == ['share', 'curves']


def test_report_compares_classes(place, grid, capsys):
    text = report(place, grid).partition('IoU by class, test, points above frozen:')[2]
    assert re.search(r'\| sky +\| +\+1\.0 \|\n\| pole +\| +\+0\.0 \|', text)
    assert 'never' not in text  # a class without scores
    assert re.search(r'\| sky +\| +-1\.0 \|', report(place, grid, '--reference', 'lora'))
    assert place.call('report', grid, '--markdown', 'page.md', '--reference', 'frosen') == 1
    assert "Did you mean 'frozen'" in capsys.readouterr().err


def test_records_without_scores_by_class_have_a_report(place):
    old = save(place.root / 'results/older', record('frozen'), record('lora'))
    assert 'by class' not in report(place, old)


def test_report_names_the_grid_that_made_its_runs(place, grid):
    shutil.copytree(place.root / grid, place.root / 'camvid_peft')
    made = {
        folder: re.findall('- runs made by: (.*)', report(place, folder))
        for folder in ('camvid_peft', grid)
    }
    assert made == {'camvid_peft': ['python tools/grid.py configs/grids/camvid_peft.py'], grid: []}


def test_markdown_page_is_one_that_the_table_command_rewrites(place, grid):
    page = place.root / grid / 'README.md'
    assert place.call('report', grid, '--markdown', page.relative_to(place.root)) == 0
    text = page.read_text()
    for picture in re.findall(r'\]\((.*?)\)', text):
        assert (page.parent / picture).read_bytes().startswith(b'\x89PNG')
    (command,) = re.findall(r'<!-- table: python tools/table.py (.*) -->', text)
    page.write_text(text.replace('41.0 ± 1.4', 'something else'))
    assert page.read_text() != text
    assert place.call('table', *command.split()) == 0
    assert page.read_text() == text
