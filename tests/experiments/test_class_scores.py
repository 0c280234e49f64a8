"""Scores by class from mmseg's own log lines, and what a run is about from its config."""

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from mmsigma.experiments import class_scores, setting
from tests.fixtures import ROOT


def table(tmp_path, intersect, union):
    """What mmseg prints for areas by class."""
    path = tmp_path / 'one.log'
    path.unlink(missing_ok=True)
    MMLogger._instance_dict.clear()
    MMLogger.get_instance('by_class', log_file=str(path))
    metric = IoUMetric()
    metric.dataset_meta = {'classes': ('sky', 'sign symbol', 'never')}
    areas = [torch.tensor(x, dtype=torch.float) for x in (intersect, union, union, union)]
    metric.compute_metrics([tuple(areas)])
    MMLogger._instance_dict.clear()
    return path.read_text()


def line(split, name='mIoU'):
    return f'2026/11/23 10:52:55 - mmengine - INFO - Iter({split}) [2/2]    {name}: 49.3  time: 1\n'


def test_by_class_of_validation_and_test(tmp_path):
    first, last = table(tmp_path, [1, 1, 0], [4, 2, 0]), table(tmp_path, [3, 1, 0], [4, 2, 0])
    text = first + line('val') + last + line('val')
    wanted = {'sky': 75.0, 'sign symbol': 50.0, 'never': None}
    assert class_scores.of_log(text) == {'validation': wanted}
    assert class_scores.of_log(text + first + line('test')) == {
        'validation': wanted,
        'test': {**wanted, 'sky': 25.0},
    }


def test_tables_of_several_data_sets_are_no_scores_of_one(tmp_path):
    one = table(tmp_path, [1, 1, 0], [4, 2, 0])
    assert class_scores.of_log(one + one + line('val')) == {}


def test_a_log_that_breaks_off_counts_for_nothing(tmp_path):
    one = table(tmp_path, [1, 1, 0], [4, 2, 0])
    assert class_scores.of_log(one[: len(one) // 2]) == {} == class_scores.of_log(one)


def test_later_starts_of_a_run_replace_earlier_ones(tmp_path):
    for name, intersect in (('20260101_000000', 1), ('20260102_000000', 2)):
        text = table(tmp_path, [intersect, 1, 0], [4, 2, 0]) + line('val')
        (tmp_path / 'run' / name).mkdir(parents=True)
        (tmp_path / 'run' / name / f'{name}.log').write_text(text)
    assert class_scores.read(tmp_path / 'run')['validation']['sky'] == 50.0


def test_setting_of_a_config():
    name = 'configs/camvid/sigma_dinov2-s_fcn_camvid-448x336.py'
    assert setting.of(Config.fromfile(ROOT / name)) == {
        'trunk': 'vit_small_patch14_dinov2',
        'head': 'FCNHead',
        'dataset': 'camvid',
        'batch': 8,
        'steps': 4000,
    }


def test_setting_tells_a_slice_from_the_whole():
    def dataset(name):
        return setting.of(Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py'))['dataset']

    assert dataset('coco_instance') == 'coco/annotations/instances_train2017.json'
    assert dataset('coco_slice_instance') != dataset('coco_instance')


def test_setting_looks_into_wrappers():
    inner = {'type': 'mmseg.X', 'data_root': '/data/voc/', 'ann_file': '/data/voc/lists/a.txt'}
    outer = {'type': 'ConcatDataset', 'datasets': [inner, {'type': 'Y', 'data_root': 'b'}]}
    loader = {'batch_size': 2, 'dataset': {'type': 'RepeatDataset', 'dataset': outer}}
    found = setting.of({'train_dataloader': loader, 'train_cfg': {'max_epochs': 12}})
    assert found['dataset'] == 'voc/lists/a.txt + b'
    assert (found['epochs'], found['trunk'], found['head']) == (12, None, None)
