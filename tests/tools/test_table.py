"""The command lines of tools/table.py and tools/report.py."""

import json
import re
import shutil
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tests.records import record, save


@pytest.fixture
def grid(place, request):
    """Records of three runs, named like a grid, and folders of runs with drawn predictions."""
    name = re.sub(r'\W+', '_', request.node.name)
    by_class = {'test': {'sky': 50.0, 'pole': 10.0}}
    records = [
        record('frozen', share_percent=0, by_class=by_class, val=(10.0, 20.0)),
        record('lora', seed=0, test=35.0, by_class=by_class, val=(30.0, 40.0)),
        record('lora', seed=1, test=36.0, by_class=by_class, val=(32.0, 42.0)),
    ]
    for number, made in enumerate(records):
        drawn = place.root / f'work_dirs/{name}/{made["run"]}/20260101_000000/vis_data/vis_image'
        drawn.mkdir(parents=True)
        for step in (100, 200, 220):
            picture = np.full((20, 60, 3), 60, np.uint8)
            picture[:, 30:] = 10 * number + step
            cv2.imwrite(str(drawn / f'val_{step % 100}.jpg_{step}.png'), picture)
    return save(place.root / f'results/{name}', *records).relative_to(place.root)


@pytest.mark.parametrize('style', ['md', 'latex', 'csv', 'html'])
def test_formats(place, grid, style, capsys):
    assert place.call('table', grid, '--format', style, '--out', 'table.txt') == 0
    assert capsys.readouterr().out == ''
    text = (place.root / 'table.txt').read_text()
    assert place.call('table', '--metric', 'mIoU', grid, '--format', style) == 0
    assert capsys.readouterr().out == text
    assert text.startswith({'md': '| method', 'latex': '%', 'csv': 'method', 'html': '<t'}[style])


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


class Document(HTMLParser):
    """Text, sources of pictures and addresses of an HTML file."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.scripts, self._in = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        self.images += [value for name, value in attrs if name == 'src']
        self.links += [value for name, value in attrs if name == 'href']

    def handle_data(self, data):
        if self._in == 'script':
            self.scripts.append(data)

    def handle_endtag(self, tag):
        self._in = None


def test_report_is_complete_in_itself(place, grid):
    assert place.call('report', grid, '--out', 'report.html', '--note', 'Mind <this>.') == 0
    text = (place.root / 'report.html').read_text()
    document = Document(text)
    assert not document.links and '://' not in re.sub(r'"data:image[^"]*"', '', text)
    pictures = [image for image in document.images if image.startswith('data:image/png')]
    assert len(pictures) == 4  # share, time, curves, classes
    # Two images of the last validation: truth once, then each method's.
    assert len(document.images) - len(pictures) == 2 * 3
    assert text.count('<figcaption>truth</figcaption>') == 2 and '0.jpg' in text
    for said in ('abc1234', 'A processor', 'torch 2.11.0', f'report.py {grid}', 'Mind &lt;this'):
        assert said in text
    data = json.loads(document.scripts[0])
    assert [row['method'] for row in data['rows']] == ['lora', 'frozen']
    assert data['rows'][0]['scores']['mIoU']['last'] == [40.0, 42.0]
    assert len(data['records']) == 3


def test_report_without_runs_says_that_predictions_are_missing(place, grid):
    assert place.call('report', grid, '--work-dir', 'none', '--out', 'none.html') == 0
    text = (place.root / 'none.html').read_text()
    assert 'hold no drawn predictions' in text and 'image/jpeg' not in text


def test_report_names_the_grid_that_made_its_runs(place, grid):
    shutil.copytree(place.root / grid, place.root / 'camvid_peft')
    made = {}
    for folder in ('camvid_peft', grid):
        assert place.call('report', folder, '--markdown', 'page.md') == 0
        made[folder] = re.findall('- runs made by: (.*)', (place.root / 'page.md').read_text())
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
