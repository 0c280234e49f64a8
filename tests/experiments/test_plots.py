"""Plots show what the records hold, and their labels do not cover each other."""

import itertools

import pytest

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.experiments import plot_labels, plots, tables
from tests.records import record

NAMES = ['sigma', 'vfm-adapter', 'adaptformer', 'norm-tuning', 'partial-1', 'lora', 'convpass']


def rows(*records):
    return tables.rows(records, ['mIoU'])


def crowd():
    """Methods whose points nearly fall together."""
    return rows(
        *(
            record(name, test=40 + 0.1 * i, share_percent=2 + 0.05 * i, val=(30.0, 40 + 0.05 * i))
            for i, name in enumerate(NAMES)
        ),
        record('frozen', test=39.9, share_percent=0, val=(30.0, 40.0)),
    )


def boxes(figure):
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    (axes,) = figure.axes
    return {text.get_text(): text.get_window_extent(renderer) for text in axes.texts}


@pytest.mark.parametrize('draw', [plots.against_share, plots.against_time, plots.curves])
def test_labels_of_a_crowd_are_apart_and_inside(draw):
    figure = draw(crowd(), 'mIoU')
    found = boxes(figure)
    assert set(found) == {*NAMES, 'frozen'}
    width, height = figure.canvas.get_width_height()
    for box in found.values():
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
    for (one, first), (other, second) in itertools.combinations(found.items(), 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0 or up <= 1, (one, other)  # a box is a pixel higher than its letters


def test_axes_are_named_by_the_split_and_the_metric():
    (axes,) = plots.against_share(crowd(), 'mIoU').axes
    assert (axes.get_ylabel(), axes.get_xscale()) == ('test mIoU', 'log')
    detection = record(test=None, val=(0.4,), metric='coco/bbox_mAP')
    figure = plots.against_time(tables.rows([detection], ['coco/bbox_mAP']), 'coco/bbox_mAP')
    assert figure.axes[0].get_ylabel() == 'val bbox_mAP'


def test_curves_are_the_mean_over_seeds():
    found = rows(*(record(seed=i, val=(10.0 + i, 20.0 + i)) for i in (0, 2)))
    (line,) = (x for x in plots.curves(found, 'mIoU').axes[0].lines if len(x.get_xdata()) == 2)
    assert list(line.get_xdata()) == [100, 200] and list(line.get_ydata()) == [11.0, 21.0]


def test_what_records_lack_is_not_drawn(tmp_path):
    found = rows(record(share_percent=0, seconds_per_step=None))
    assert plots.against_share(found, 'mIoU') is None
    assert plots.against_time(found, 'mIoU') is None
    assert plots.curves(found, 'mIoU') is None  # a single validation is no curve
    assert plots.by_class(found, 'lora') is None
    with pytest.raises(InvalidSettingError, match='lack what'):
        plots.save(None, tmp_path / 'plot.png')


def classes(**scores):
    return {'test': scores}


def test_differences_by_class():
    found = rows(
        record('frozen', by_class=classes(sky=50.0, pole=10.0, never=None)),
        record('lora', seed=0, by_class=classes(sky=60.0, pole=7.0, never=None)),
        record('lora', seed=1, by_class=classes(sky=61.0, pole=8.0, never=None)),
        record('older'),
    )
    axes = plots.by_class(found, 'frozen').axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ['lora']
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['sky', 'pole']
    assert [text.get_text() for text in axes.texts] == ['+10.5', '-2.5']
    with pytest.raises(UnknownNameError, match=r"'frosen'.*frozen"):
        plots.by_class(found, 'frosen')


def test_of_many_classes_those_that_differ_most_are_shown():
    base = {f'class {i}': 50.0 for i in range(150)}
    other = {name: 50.0 + i for i, name in enumerate(base)}
    found = rows(record('frozen', by_class={'test': base}), record(by_class={'test': other}))
    axes = plots.by_class(found, 'frozen').axes[0]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == [f'class {i}' for i in range(110, 150)]
    assert '40 of 150 classes' in axes.get_title()


def test_the_same_rows_give_the_same_picture(tmp_path):
    for name in ('a', 'b'):
        plots.save(plots.against_share(crowd(), 'mIoU'), tmp_path / name)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


@pytest.mark.parametrize('wanted', [[0.5] * 4, [0.0, 0.01, 0.99, 1.0], [0.1, 0.5, 0.9], [1.0] * 9])
def test_spread_keeps_order_distance_and_bounds(wanted):
    places = plot_labels._spread(wanted, 0.1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in itertools.pairwise(places))
    assert places[0] >= 0 and places[-1] <= 1
    if len(wanted) == 3:
        assert places == pytest.approx(wanted)
