"""tools/predict.py: several models on one trunk over a folder of images."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from pycocotools import mask as rle

from mmsigma.apis.predictions import files, reader
from mmsigma.datasets.panoptic import decode
from mmsigma.errors import InvalidInputError, InvalidSettingError
from mmsigma.models.trunks.timm_vit import TimmViT
from tests.fixtures import hashes

FROZEN = """
model['backbone']['tuner'] = dict(_delete_=True, type='Frozen')
"""
STATIC = """
model['backbone']['tuner'].update(gate='static', blocks=[-1])
"""


@pytest.fixture(scope='module')
def trained(place):
    """A config and a checkpoint of two tuners on the tiny trunk."""
    found = {}
    for name, extra in {'frozen': FROZEN, 'static': STATIC}.items():
        config = place.config(extra, iters=4, interval=4)
        assert place.call('train', config, '--work-dir', name) == 0
        found[name] = config, place.root / name / 'iter_4.pth'
    return found


@pytest.fixture
def folder(place, tmp_path):
    """Two images and a file that is none."""
    source = place.root / 'data/camvid/img_dir/test'
    out = tmp_path / 'images'
    shutil.copytree(source, out)
    (out / 'broken.jpg').write_bytes(b'no picture')
    (out / 'notes.txt').write_text('not an image')
    return out


def arguments(trained, *names):
    return [part for name in names for part in ('--task', name, *trained[name])]


def test_together_writes_what_each_writes_alone(
    place, trained, folder, tmp_path, capsys, monkeypatch
) -> None:
    tasks = arguments(trained, 'frozen', 'static')
    embed, passes = TimmViT.embed, []
    monkeypatch.setattr(TimmViT, 'embed', lambda *given: passes.append(1) or embed(*given))
    assert place.call('predict', *tasks, '--out', tmp_path / 'both', folder) == 1
    assert len(passes) == 2  # one for each image, not for each model
    said = capsys.readouterr()
    assert 'frozen: Frozen, 4 of 4 blocks shared' in said.out
    assert 'static: SIGMA, 3 of 4 blocks shared' in said.out
    assert '[3/3]' in said.out and 'broken.jpg: left out' in said.out
    assert '1 of 3 images were left out' in said.err and 'Traceback' not in said.err
    good = sorted(p for p in folder.glob('*.jpg') if p.stem != 'broken')
    for name in ('frozen', 'static'):
        alone = arguments(trained, name)
        assert place.call('predict', *alone, '--out', tmp_path / 'alone', *good) == 0
        labels = cv2.imread(str(tmp_path / 'both' / name / f'{good[0].stem}.png'), -1)
        assert labels.shape == (60, 80) and labels.dtype == np.uint8 and labels.max() < 11
    assert hashes(tmp_path / 'both') == hashes(tmp_path / 'alone')
    assert len(hashes(tmp_path / 'both')) == 4


def test_fold(place, trained, folder, tmp_path, capsys) -> None:
    (folder / 'broken.jpg').unlink()
    tasks = arguments(trained, 'frozen', 'static')
    assert place.call('predict', *tasks, '--merge', '--out', tmp_path / 'out', folder) == 0
    assert len(hashes(tmp_path / 'out')) == 4
    said = ''.join(capsys.readouterr())
    assert "'frozen' runs unmerged" in said and "'static' runs unmerged" not in said


def test_bad_arguments(place, trained, folder, tmp_path, capsys) -> None:
    tasks = arguments(trained, 'frozen')
    config, checkpoint = trained['frozen']
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'again').mkdir()
    first = next(folder.glob('0*.jpg'))
    again = shutil.copy(first, tmp_path / 'again')
    for given, message in (
        ([*tasks, 'nowhere.jpg'], "no image or folder 'nowhere.jpg'"),
        ([*tasks, tmp_path / 'empty'], 'No image in'),
        ([*tasks, folder, again], 'have one name'),
        ([*tasks, *tasks, folder], 'names become folders'),
        (['--task', '../up', config, checkpoint, folder], 'names become folders'),
        (['--task', 'a', config, tmp_path / 'no.pth', folder], 'no checkpoint'),
        (['--task', 'a', 'no.py', checkpoint, folder], 'no config'),
    ):
        assert place.call('predict', '--out', tmp_path / 'out', *given) == 1
        said = capsys.readouterr().err
        assert message in said and 'Traceback' not in said
    assert not (tmp_path / 'out').exists()


def test_a_config_without_a_test_pipeline() -> None:
    with pytest.raises(InvalidSettingError, match='test_dataloader'):
        reader(Config(dict(test_dataloader=dict(dataset=dict(datasets=[dict(type='A')])))))
    nested = dict(type='A', dataset=dict(type='B', pipeline=[dict(type='LoadAnnotations')]))
    read = reader(Config(dict(test_dataloader=dict(dataset=dict(datasets=[nested])))))
    with pytest.raises(InvalidInputError, match='missing'):
        read(Path('nowhere.png'))


def test_kinds_of_predictions() -> None:
    depth = torch.rand(1, 3, 4)
    many = torch.full((1, 3, 4), 300)
    sample = SegDataSample()
    sample.pred_sem_seg = PixelData(data=many)
    sample.set_field(PixelData(data=depth), 'pred_depth_map')
    found = files(sample, ())
    picture = cv2.imdecode(np.frombuffer(found['.png'], np.uint8), -1)
    assert picture.dtype == np.uint16 and (picture == 300).all()
    assert set(found) == {'.png', '.npy'} and found['.npy'].endswith(depth.numpy().tobytes())

    masks = torch.zeros(1, 3, 4, dtype=torch.bool)
    masks[0, 1:, 2:] = True
    sample = SegDataSample()
    instances = InstanceData(
        labels=torch.tensor([1]), scores=torch.tensor([0.5]), bboxes=torch.ones(1, 4), masks=masks
    )
    sample.set_field(instances, 'pred_instances')
    panoptic = torch.tensor([[[0, 0, 1001], [2, 2, 5]]])
    sample.set_field(PixelData(sem_seg=panoptic), 'pred_panoptic_seg')
    found = files(sample, ('a', 'b', 'c'))
    facts = json.loads(found['.json'])
    assert facts['instances'][0]['bbox'] == [1, 1, 1, 1] and facts['classes'] == ['a', 'b', 'c']
    assert (rle.decode(facts['instances'][0]['mask']) == masks[0].numpy()).all()
    ids = decode(cv2.imdecode(np.frombuffer(found['.panoptic.png'], np.uint8), -1)[..., ::-1])
    assert ids.tolist() == [[1, 1, 3], [2, 2, 0]]
    assert facts['segments'] == [
        {'id': 1, 'label': 0},
        {'id': 2, 'label': 2},
        {'id': 3, 'label': 1},
    ]
    with pytest.raises(InvalidSettingError, match='no prediction'):
        files(SegDataSample(), ())
