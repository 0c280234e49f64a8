"""Testing as mmseg and mmdet do: test-time augmentation, predictions as files."""

import pickle

import numpy as np
import pytest
from PIL import Image

from tests.coco import write_coco
from tests.fixtures import COUNTS
from tests.tools.test_detectors import write

TTA = """
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(56 * k, 42 * k), keep_ratio=False) for k in (1, 2)],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
"""
SCHEDULE = 'param_scheduler = []\n'


@pytest.fixture(scope='module')
def trained(place):
    """A config and its checkpoint."""
    config = place.config(SCHEDULE, iters=3)
    assert place.call('train', config, '--work-dir', 'run') == 0
    return config, 'run/iter_3.pth'


def score(capfd):
    (line,) = [
        x for x in ''.join(capfd.readouterr()).splitlines() if 'Iter(test)' in x and 'mIoU' in x
    ]
    return line.split('mIoU: ')[1].split()[0]


@pytest.mark.parametrize('own', [False, True])
def test_augmented(place, trained, capfd, own):
    config, checkpoint = trained
    if own:
        config = place.config(SCHEDULE + TTA, iters=3)
    assert place.call('test', config, checkpoint, '--tta', '--work-dir', 'tta') == 0
    assert float(score(capfd)) >= 0


def test_a_checkpoint_of_another_model_is_refused_augmented(place, trained, capfd):
    other = place.config(SCHEDULE + "model['decode_head']['channels'] = 8\n", iters=3)
    assert place.call('test', other, trained[1], '--tta', '--work-dir', 'tta') == 1
    assert 'does not fit the model' in ''.join(capfd.readouterr())


def test_predictions_as_label_images(place, trained):
    assert place.call('test', *trained, '--out', 'labels', '--work-dir', 'out') == 0
    found = sorted((place.root / 'labels').glob('*.png'))
    assert len(found) == COUNTS['test']
    assert np.asarray(Image.open(found[0])).shape == (60, 80)


@pytest.mark.slow
def test_a_detector(place, capfd):
    write_coco(place.root / 'data/coco_slice')
    config = write(place, 'coco_slice/sigma_dinov2-s_retinanet_coco-slice')
    assert place.call('train', config, '--work-dir', 'detector') == 0
    checkpoint = 'detector/iter_2.pth'
    assert place.call('test', config, checkpoint, '--tta', '--work-dir', 'tta') == 0
    assert place.call('test', config, checkpoint, '--out', 'found', '--work-dir', 'tta') == 1
    assert 'a file that ends in .pkl; given: found' in ''.join(capfd.readouterr())
    assert place.call('test', config, checkpoint, '--out', 'found.pkl', '--work-dir', 'tta') == 0
    assert pickle.loads((place.root / 'found.pkl').read_bytes())[0]['pred_instances'] is not None


def test_the_rate_follows_the_batch(place, capfd):
    extra = f'{SCHEDULE}auto_scale_lr = dict(enable=False, base_batch_size=4)\n'
    arguments = ['--auto-scale-lr', '--work-dir', 'scaled']
    assert place.call('train', place.config(extra, iters=3), *arguments) == 0
    assert 'Scaling the original LR by 0.5' in ''.join(capfd.readouterr())
    assert place.call('train', place.config(SCHEDULE, iters=3), *arguments) == 1
    assert 'auto_scale_lr=dict(base_batch_size=...)' in ''.join(capfd.readouterr())
