"""What a run is about, from its config."""

from mmengine.config import Config

from mmsigma.config import setting
from tests.fixtures import ROOT


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
