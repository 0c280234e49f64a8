"""One table in three formats."""

import csv
import io
import re

import pytest

from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import formats, published, tables
from tests.fixtures import ROOT
from tests.records import record

SETTING = {'trunk': 'swin', 'head': 'UPerHead', 'dataset': 'ade'}
FIGURES = """
- trunk: [swin, swin.other]
  head: UPerHead
  dataset: ade
  metric: mIoU
  source: A paper, its README.
  values:
    lora: 50.3 [P]
    mona: 51.36 [V]
"""


@pytest.fixture
def figures(tmp_path):
    path = tmp_path / 'published.yaml'
    path.write_text(FIGURES)
    return published.read(path)


def table(*records, metrics=('mIoU',), others=()):
    return formats.table(tables.compare(records, metrics), others)


def markdown(*records, **more):
    """The text with one space around each cell, without those that align the columns."""
    lines = formats.markdown(table(*records, **more)).splitlines()
    return '\n'.join(re.sub(r'\s*\|\s*', ' | ', line).strip() for line in lines)


SEEDS = [record('lora_x', seed=i, val=(40.0 + i,), test=30.0 + i) for i in range(3)]


def test_markdown_has_mean_and_deviation_over_seeds():
    text = markdown(*SEEDS, record('frozen', share_percent=0))
    head, rule, *lines = text.splitlines()
    assert head == (
        '| method | trained, % of trunk | rate | seeds | val mIoU, last | val mIoU, best '
        '| **test mIoU** | s / step | peak MiB |'
    )
    assert rule.count('--:') == 8
    assert lines[0] == (
        '| lora_x | 2.00 | 0.001 | 3 | 41.0 ± 1.0 | 41.0 ± 1.0 | **31.0 ± 1.0** | 0.50 | 1,000 |'
    )
    assert '| frozen | 0.00 | 0.001 | 1 | 40.0 | 40.0 | **30.0** |' in lines[1]


def test_rates_have_columns_where_there_is_a_choice():
    text = markdown(record(), record(rate=0.01, val=(50.0,)), record('b'))
    assert 'val mIoU, 0.001 | val mIoU, 0.01 | rate |' in text
    assert '| b * | 2.00 | 40.0 |  | 0.001 |' in text  # a missing cell is empty


def test_inner_rates_have_columns_at_the_best_of_the_heads():
    pairs = {(1e-2, 1e-3): 41.0, (1e-2, 3e-4): 40.0, (3e-3, 3e-4): 42.0}
    runs = [record('sigma', r, inner=inner, val=(v,)) for (r, inner), v in pairs.items()]
    head, _, *lines = markdown(*runs, record('frozen', 1e-2)).splitlines()
    assert '| val mIoU, inner 0.0003 | val mIoU, inner 0.001 | rate | inner rate |' in head
    assert lines[0].startswith('| sigma | 2.00 | 42.0 | 41.0 | 0.003 | 0.0003 |')
    assert lines[1].startswith('| frozen * | 2.00 |  |  | 0.01 |  |')
    assert 'Compared at fewer rates than others (*): frozen at 1 of 2.' in lines


def test_differences_to_sigma_where_seeds_are_shared():
    sigma = [record('sigma', seed=i, test=value) for i, value in enumerate((29.0, 30.0, 31.5))]
    text = markdown(*SEEDS, *sigma, record('frozen'))
    head, _, *lines = text.splitlines()
    assert '| **test mIoU** | test mIoU - sigma [95 %] | s / step |' in head
    # 1, 1 and 0.5 more: 0.83 on average, 4.303 standard errors of 0.17 to either side.
    assert '| +0.8 [+0.1, +1.6] |' in next(x for x in lines if '| lora_x |' in x)
    assert all('| **3' in x and '** |  | 0.50' in x for x in lines if 'lora_x' not in x)
    row = next(csv.DictReader(io.StringIO(formats.as_csv(table(*SEEDS, *sigma)))))
    name = 'test mIoU - sigma [95 %]'
    found = [float(row[key]) for key in (name, f'{name}, low', f'{name}, high')]
    assert found == pytest.approx([0.8333, 0.1162, 1.5504], abs=1e-3)
    assert 'sigma [95' not in markdown(*SEEDS, sigma[0])


def test_several_metrics_and_no_test():
    runs = [record(test=None, val=(0.4,), metric='coco/bbox_mAP')]
    runs[0]['validation'][0]['coco/segm_mAP'] = 0.35
    text = markdown(*runs, metrics=('coco/bbox_mAP', 'coco/segm_mAP'))
    assert '**val bbox_mAP, last** | val bbox_mAP, best | **val segm_mAP, last**' in text
    assert '| **40.0** | 40.0 | **35.0** | 35.0 |' in text and 'test' not in text


def test_latex_escapes_and_has_as_many_cells_everywhere():
    text = formats.latex(table(*SEEDS))
    body = text.split('\\midrule\n')[1].split('\\bottomrule')[0].strip()
    assert body.startswith(r'lora\_x & 2.00 &') and r'\textbf{31.0 $\pm$ 1.0}' in body
    assert r'trained, \% of trunk' in text
    assert body.count('&') + 1 == len(text.split('tabular}{')[1].split('}')[0])


def test_csv_reads_back_exactly():
    text = formats.as_csv(table(*SEEDS, record('frozen', test=30.126)))
    first, second = csv.DictReader(io.StringIO(text))
    assert (first['method'], first['test mIoU'], first['test mIoU, std']) == ('lora_x', '31', '1')
    assert (second['test mIoU'], second['test mIoU, std']) == ('30.126', '')


def test_test_scores_of_validation_images_say_so():
    assert 'validation images' in markdown(record(held_out=False))
    assert 'validation images' not in markdown(record(held_out=True), record('b'))


# --- Published figures ------------------------------------------------------------------------


def test_published_figures_stand_beside_the_same_setting_alone(figures):
    text = markdown(record(setting=SETTING), record('other'), others=figures)
    head, _, *lines = text.splitlines()
    assert head.endswith('| published mIoU |')
    assert next(x for x in lines if '| lora |' in x).endswith('| 50.3 [P] |')
    assert next(x for x in lines if '| other |' in x).endswith('|  |')
    assert 'read off a published plot' in text and 'A paper, its README.' in text
    assert "authors' own code" not in text  # no figure of that kind is shown
    row = next(csv.DictReader(io.StringIO(
        formats.as_csv(table(record(setting=SETTING), others=figures)))))  # fmt: skip
    assert (row['published mIoU'], row['published mIoU, tag']) == ('50.3', 'P')


@pytest.mark.parametrize('name', SETTING)
def test_another_setting_has_no_published_figure(figures, name):
    runs = [record(setting={**SETTING, name: 'else'}), record('b')]
    assert 'published' not in markdown(*runs, others=figures)


def test_another_metric_or_method_has_no_published_figure(figures):
    for run, metric in (
        (record(metric='aAcc', setting=SETTING), 'aAcc'),
        (record('lora-16', setting=SETTING), 'mIoU'),
    ):
        assert 'published' not in markdown(run, metrics=(metric,), others=figures)


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('50.3 [P]', '50.3 [R]', 'must be a number and a tag'),
        ('50.3 [P]', '50.3', 'must be a number and a tag'),
        ('50.3 [P]', 'good [P]', 'must be a number and a tag'),
        ('source: A paper, its README.', 'source:', 'group 1: needs'),
        ('  head: UPerHead\n', '', 'group 1: needs'),
        ('- trunk', 'trunk', 'cannot be read|must hold a list'),
    ],
)
def test_figures_without_a_source_are_refused(tmp_path, old, new, said):
    path = tmp_path / 'published.yaml'
    path.write_text(FIGURES.replace(old, new))
    with pytest.raises(InvalidSettingError, match=said):
        published.read(path)


def test_published_figures_of_the_repository_are_read():
    groups = published.read(ROOT / 'results/published.yaml')
    assert len(groups) >= 5
    assert {group['metric'] for group in groups} >= {'mIoU', 'coco/bbox_mAP'}
