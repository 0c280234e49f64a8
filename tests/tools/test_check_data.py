"""``tools/check_data.py`` on whole data, and on trees with everything wrong that it knows."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmsigma.datasets.agreement import head_sizes
from tests.coco import write_coco
from tests.fixtures import ROOT

SHARED = ROOT.parent / 'shared/data'
CAMVID = ROOT / 'configs/camvid/sigma_dinov2-s_fcn_camvid-448x336.py'
SLICE = ROOT / 'configs/coco_slice'


@pytest.fixture
def tree(place, tmp_path):
    """A copy of the tiny CamVid, to break; MMSIGMA_DATA names its folder."""
    shutil.copytree(place.root / 'data', tmp_path / 'data')
    before, place.env['MMSIGMA_DATA'] = place.env['MMSIGMA_DATA'], str(tmp_path / 'data')
    yield tmp_path / 'data/camvid'
    place.env['MMSIGMA_DATA'] = before


@pytest.fixture
def coco(place, tmp_path):
    """A tiny COCO under the name of the slice."""
    root = tmp_path / 'data/coco_slice'
    root.mkdir(parents=True)
    write_coco(root)
    before, place.env['MMSIGMA_DATA'] = place.env['MMSIGMA_DATA'], str(tmp_path / 'data')
    yield root
    place.env['MMSIGMA_DATA'] = before


def check(place, capsys, config, *arguments):
    """Exit status, and what is printed."""
    status = place.call('check_data', config, '--workers', 1, *arguments)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_whole_data(place, capsys, tmp_path):
    sheet = tmp_path / 'sheet.png'
    status, out, _ = check(place, capsys, CAMVID, '--sheet', sheet, '--images', 2)
    assert status == 0
    for split, count in (('train', 6), ('val', 3), ('test', 2)):
        assert f'{split}: {count} images, {count} of them read; all 80x60' in out
    # Half of each picture is class 3, half class 10, and 4 rows of 60 are ignored.
    assert '6.7% of the pixels are ignored' in out
    assert 'no pixels of 9 classes: sky, building, pole, sidewalk' in out
    line = next(line for line in out.splitlines() if line.startswith('road '))
    # The first image to train on has one pixel of each other class.
    assert line.split() == ['road', '49.983%', '50.000%', '50.000%']
    assert 'Nothing is wrong.' in out
    assert '6 images' in out.splitlines()[-3]
    with Image.open(sheet) as image:
        assert image.size == (1280, 780)
        assert len(np.unique(np.asarray(image.convert('RGB')).reshape(-1, 3), axis=0)) > 50


def test_few_samples(place, capsys):
    status, out, _ = check(place, capsys, CAMVID, '--samples', 2)
    assert status == 0
    assert 'train: 6 images, 2 of them read' in out
    status, out, _ = check(place, capsys, CAMVID, '--samples', 2, '--all')
    assert 'train: 6 images, 6 of them read' in out


def test_everything_wrong_is_listed_at_once(place, capsys, tree, tmp_path):
    labels, images = tree / 'ann_dir/train', tree / 'img_dir/train'
    (labels / '000.png').unlink()
    Image.fromarray(np.full((60, 80), 11, np.uint8)).save(labels / '001.png')
    Image.fromarray(np.full((30, 80), 3, np.uint8)).save(labels / '002.png')
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(labels / '003.png')
    (labels / '004.png').write_bytes((labels / '004.png').read_bytes()[:50])
    (images / '004.jpg').write_bytes((images / '004.jpg').read_bytes()[:600])
    Image.fromarray(np.full((60, 80), 3, np.uint8)).save(labels / 'lonely.png')
    shutil.copy(images / '005.jpg', tree / 'img_dir/val/900.jpg')
    shutil.rmtree(tree / 'img_dir/test')
    options = ['--cfg-options', 'model.decode_head.num_classes=12']
    status, out, err = check(
        place, capsys, CAMVID, '--sheet', tmp_path / 'sheet.png', '--images', 9, *options
    )
    assert status == 1
    for words in (
        'train: decode_head predicts 12 classes, the dataset has 11',
        f'train: 1 of 6 images have no label file: {labels}/000.png',
        f'train: 1 label files have no image: {labels}/lonely.png',
        f'{labels}/001.png has labels [11]',
        f'{labels}/002.png is 80x30, its image 80x60',
        f'{labels}/003.png has shape (60, 80, 3)',
        f'train: 1 label files cannot be read: {labels}/004.png',
        f'train: 1 images cannot be read: {images}/004.jpg',
        f'val: 1 of 4 images have no label file: {tree}/ann_dir/val/900.png',
        f"test_dataloader: img_path '{tree}/img_dir/test' does not exist",
    ):
        assert words in err, words
    assert err.count('\n- ') == len(err.split('error: ')[1].splitlines()) - 1
    assert f'{err.count(chr(10) + "- ")} things are wrong' in err
    assert 'train: 6 images' in out
    assert (tmp_path / 'sheet.png').exists()


def relabel(folder, change):
    for path in folder.glob('*.png'):
        labels = np.asarray(Image.open(path)).copy()
        Image.fromarray(change(labels)).save(path)


def test_masks_of_0_and_255(place, capsys, tree):
    """mmseg ignores 255: each pixel that is left is of one class, and nothing could be learned."""
    relabel(tree / 'ann_dir/train', lambda labels: np.where(labels == 3, 255, 0).astype(np.uint8))
    status, out, err = check(place, capsys, CAMVID)
    assert status == 1
    for words in (
        'no pixel of 10 of 11 classes (building',
        'in 6 of 6 label files. Their labels are 0, 255; ',
        'of the pixels are ignored, which is what 255 means',
        'convert masks of 0 and 255 to 0 and 1',
        "LabelCheckHook', absent=['building'",
    ):
        assert words in err, words
    # Only what was read is known.
    status, out, _ = check(place, capsys, CAMVID, '--samples', 4)
    assert status == 0
    assert 'in 4 of 6 label files' in out.partition('1 things to look at:')[2]


def test_classes_may_be_absent_by_name(place, capsys, tree):
    first = tree / 'ann_dir/train/000.png'
    first.write_bytes((tree / 'ann_dir/train/002.png').read_bytes())
    config = tree.parent / 'absent.py'
    text = (
        f"_base_ = ['{CAMVID}']\ncustom_hooks = [dict(type='mmsigma.LabelCheckHook', absent={{}})]"
    )
    names = ['sky', 'building', 'pole', 'sidewalk', 'tree', 'sign symbol', 'fence', 'car']
    names.append('pedestrian')
    config.write_text(text.format(names))
    status, _, err = check(place, capsys, config)
    assert status == 0, err
    config.write_text(text.format(['Sky', *names[1:]]))
    status, _, err = check(place, capsys, config)
    assert status == 1
    assert 'has Sky, which is no class of the dataset. It has sky' in err
    assert 'no pixel of 1 of 11 classes (sky)' in err


def test_images_that_the_suffix_leaves_out(place, capsys, tree):
    images = tree / 'img_dir/train'
    for old, new in (('004.jpg', '004.JPG'), ('005.jpg', '005.png')):
        (images / old).rename(images / new)
    status, out, err = check(place, capsys, CAMVID)
    assert status == 1
    assert f'train: 2 of 6 images in {images} are left out' in out
    assert "do not end in img_suffix='.jpg': 004.JPG, 005.png" in out
    assert 'train: 2 label files have no image' in err


def test_labels_that_mean_something_else_are_listed(place, capsys):
    options = ['--cfg-options', 'train_dataloader.dataset.ignore_index=254']
    options.append('test_evaluator.ignore_index=0')
    status, _, err = check(place, capsys, CAMVID, *options)
    assert status == 1
    for words in (
        'decode_head.ignore_index is 255; train_dataloader.dataset.ignore_index is 254',
        'decode_head.ignore_index is 255; test_evaluator.ignore_index is 0',
    ):
        assert words in err, words


def test_images_that_are_trained_on_too(place, capsys):
    options = ['--cfg-options', 'val_dataloader.dataset.data_prefix.img_path=img_dir/train']
    options.append('val_dataloader.dataset.data_prefix.seg_map_path=ann_dir/train')
    status, out, _ = check(place, capsys, CAMVID, *options)
    assert status == 0
    assert '6 of these images are trained on too' not in out  # it is the same dataset
    assert 'val:' not in out
    options += ['val_dataloader.dataset.ignore_index=254']
    _, out, _ = check(place, capsys, CAMVID, *options)
    assert '6 of these images are trained on too' in out


@pytest.mark.parametrize(
    ('leaf', 'words'),
    [
        (
            'sigma_dinov2-s_mask-rcnn-small_coco-slice',
            ['train: 5 images that filter_cfg keeps', '8 instances, 2 crowds', 'dog '],
        ),
        (
            'sigma_dinov2-s_mask2former-panoptic_coco-slice',
            ['instances and segments of stuff', 'snow '],
        ),
    ],
)
def test_detection(place, capsys, coco, tmp_path, leaf, words):
    sheet = tmp_path / 'sheet.png'
    status, out, err = check(place, capsys, SLICE / f'{leaf}.py', '--sheet', sheet)
    assert status == 0, err
    for word in words:
        assert word in out, word
    with Image.open(sheet) as image:
        assert image.width == 1280
        blank = (np.asarray(image.convert('RGB')) == 220).all(axis=-1).mean()
        assert blank < 0.01  # the picture of an image that cannot be drawn is ten times as large


def test_wrong_annotations_are_listed_at_once(place, capsys, coco):
    config = SLICE / 'sigma_dinov2-s_mask-rcnn-small_coco-slice.py'
    path = coco / 'annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    content['images'][1]['width'] += 1
    path.write_text(json.dumps(content))
    first = coco / 'train2017' / content['images'][0]['file_name']
    first.write_bytes(first.read_bytes()[:300])
    (coco / 'val2017/000000000100.jpg').unlink()
    options = ['--cfg-options', 'model.roi_head.bbox_head.num_classes=81']
    status, _, err = check(place, capsys, config, *options)
    assert status == 1
    for words in (
        'train: 1 images have another size than their annotations say',
        '000000000001.jpg is 80x60, listed as 81x60',
        'train: 1 images cannot be read',
        'val_dataloader: 1 of 3 images',
        'roi_head.bbox_head predicts 81 classes, the dataset has 80',
    ):
        assert words in err, words


def test_panoptic_pictures_of_other_images(place, capsys, coco):
    config = SLICE / 'sigma_dinov2-s_mask2former-panoptic_coco-slice.py'
    pictures = coco / 'annotations/panoptic_train2017'
    Image.fromarray(np.full((60, 80, 3), 9, np.uint8)).save(pictures / '000000000001.png')
    status, _, err = check(place, capsys, config)
    assert status == 1
    assert 'train: 1 panoptic pictures do not fit their annotations' in err
    assert '000000000001.png has none of its' in err


def test_a_config_without_data(place, capsys, tmp_path):
    config = tmp_path / 'empty.py'
    config.write_text("default_scope = 'mmseg'\n")
    status, _, err = check(place, capsys, config)
    assert status == 1
    assert 'has no dataloader' in err


def test_heads_of_a_config():
    model = dict(
        backbone=dict(num_classes=1000),
        rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=[dict(num_classes=80), dict(num_classes=7)]),
        panoptic_head=dict(num_things_classes=80, num_stuff_classes=53),
    )
    assert dict(head_sizes(model)) == {
        'roi_head.bbox_head.0': 80,
        'roi_head.bbox_head.1': 7,
        'panoptic_head': 133,
    }


@pytest.mark.parametrize(
    ('config', 'folder', 'words'),
    [
        (CAMVID, 'camvid', ['train: 367 images', 'val: 101 images', 'test: 233 images']),
        (
            ROOT / 'configs/vnc/sigma_dinov2-s_fcn_vnc-252x252.py', 'vnc',
            ['train: 48 images', 'val: 12 images', 'test: 12 images', 'glia or extracellular'],
        ),
        (
            SLICE / 'sigma_dinov2-s_mask-rcnn-small_coco-slice.py', 'coco_slice',
            ['740 instances, 6 crowds', '707 instances, 5 crowds'],
        ),
    ],
)  # fmt: skip
def test_real_data(place, capsys, monkeypatch, config, folder, words):
    if not (SHARED / folder).is_dir():
        pytest.skip(f'{SHARED / folder} is not there')
    monkeypatch.setitem(place.env, 'MMSIGMA_DATA', str(SHARED))
    status, out, err = check(place, capsys, config, '--samples', 20)
    assert status == 0, err
    for word in words:
        assert word in out, word
