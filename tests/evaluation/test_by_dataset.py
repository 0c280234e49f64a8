"""One metric on several data sets: split by folder, averaged without weights."""

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from mmsigma.errors import DataError
from mmsigma.evaluation import ByDataset


@METRICS.register_module(force=True)
class MeanOfValues(BaseMetric):
    """Two results a sample would be one too few for a metric that counts samples."""

    def process(self, data_batch, data_samples):
        self.results += [sample['value'] for sample in data_samples]

    def compute_metrics(self, results):
        return {'mean': sum(results) / len(results), 'count': float(len(results))}


@pytest.fixture
def metric(tmp_path):
    folders = {'north': str(tmp_path / 'data/north'), 'south': str(tmp_path / 'data/south')}
    return ByDataset(metric=dict(type='MeanOfValues'), folders=folders)


def sample(root, place, value):
    return dict(img_path=f'{root}/data/{place}/images/a.jpg', value=value)


def test_each_data_set_counts_the_same(metric, tmp_path):
    values = [('north', 1.0), ('south', 8.0), ('north', 2.0), ('north', 3.0)]
    for place, value in values:  # in any order, several at once
        metric.process({}, [sample(tmp_path, place, value)])
    metric.process({}, [sample(tmp_path, 'south', 4.0), sample(tmp_path, 'north', 2.0)])
    assert metric.evaluate(6) == {
        'north/mean': 2.0, 'north/count': 4.0, 'south/mean': 6.0, 'south/count': 2.0,
        'mean': 4.0, 'count': 3.0,
    }  # fmt: skip


def test_padding_of_the_last_batch_is_dropped(metric, tmp_path):
    """In several processes the first sample may come twice, at the end."""
    for place, value in (('north', 1.0), ('south', 8.0), ('north', 100.0)):
        metric.process({}, [sample(tmp_path, place, value)])
    assert metric.evaluate(2)['north/mean'] == 1.0


def test_classes_reach_the_other_metric(metric):
    metric.dataset_meta = dict(classes=('a', 'b'))
    assert metric.metric.dataset_meta == metric.dataset_meta == dict(classes=('a', 'b'))


def test_an_image_from_elsewhere(metric, tmp_path):
    with pytest.raises(DataError, match=r'none of the folders.*north.*val_evaluator\.folders'):
        metric.process({}, [sample(tmp_path, 'northern', 1.0)])


def test_a_data_set_without_images(metric, tmp_path):
    metric.process({}, [sample(tmp_path, 'north', 1.0)])
    with pytest.raises(DataError, match='No image of south'):
        metric.evaluate(1)
