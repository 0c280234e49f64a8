"""Plots show what the records hold, and their labels do not cover each other."""

import itertools

import pytest

from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import plots, tables
from tests.records import record

NAMES = ['sigma', 'vfm-adapter', 'adaptformer', 'norm-tuning', 'partial-1', 'lora', 'convpass']


def rows(*records):
    return tables.compare(records, ['mIoU'])


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


def test_labels_of_a_crowd_are_apart_and_inside():
    figure = plots.against_share(crowd())
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
    (axes,) = plots.against_share(crowd()).axes
    assert (axes.get_ylabel(), axes.get_xscale()) == ('test mIoU', 'log')
    detection = record(test=None, val=(0.4,), metric='coco/bbox_mAP')
    figure = plots.against_share(tables.compare([detection], ['coco/bbox_mAP']))
    assert figure.axes[0].get_ylabel() == 'val bbox_mAP'


def test_curves_are_the_mean_over_seeds_in_the_order_of_their_ends():
    runs = [record(seed=i, val=(10.0 + i, 20.0 + i)) for i in (0, 2)]
    figure = plots.curves(rows(*runs, record('better', test=0.0, val=(5.0, 30.0, None))))
    better, line = figure.axes[0].lines
    assert list(line.get_xdata()) == [100, 200] and list(line.get_ydata()) == [11.0, 21.0]
    assert list(better.get_ydata()) == [5.0, 30.0]  # what is not finite has no place
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['better', 'lora']


def test_what_records_lack_is_not_drawn(tmp_path):
    found = rows(record(share_percent=0))
    assert plots.against_share(found) is None
    assert plots.curves(found) is None  # a single validation is no curve
    with pytest.raises(InvalidSettingError, match='lack what'):
        plots.save(None, tmp_path / 'plot.png')


def test_the_same_rows_give_the_same_picture(tmp_path):
    for name in ('a', 'b'):
        plots.save(plots.against_share(crowd()), tmp_path / name)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
