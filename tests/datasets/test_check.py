"""What is wrong with a dataset is said before training starts."""

import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset
from PIL import Image

from mmsigma.datasets.check import check_labels, check_paths
from mmsigma.errors import DataError
from tests.fixtures import write_camvid

CLASSES = ('sky', 'road', 'car')


@pytest.fixture
def root(tmp_path):
    write_camvid(tmp_path, dict(train=3))
    for i in range(3):
        save(tmp_path / 'camvid', i, [0, 1, 2, 255])
    return tmp_path / 'camvid'


def save(root, index, values):
    label = np.resize(np.array(values, np.uint8), (60, 80))
    Image.fromarray(label).save(root / f'ann_dir/train/{index:03}.png')


def config(root, **changes):
    prefix = dict(img_path='img_dir/train', seg_map_path='ann_dir/train')
    return dict(type='BaseSegDataset', data_root=str(root), data_prefix=prefix) | changes


def dataset(root, classes=CLASSES, **arguments):
    built = config(root, metainfo=dict(classes=classes), **arguments)
    built.pop('type')
    return BaseSegDataset(**built)


# --- Paths ----------------------------------------------------------------------------------

WRAPPERS = {
    'plain': lambda inner: inner,
    'repeat': lambda inner: dict(type='RepeatDataset', times=2, dataset=inner),
    'concat': lambda inner: dict(type='ConcatDataset', datasets=[inner, inner]),
    'nested': lambda inner: dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[inner])
    ),
}


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_good_paths_pass_and_bad_ones_do_not(root, wrapper):
    wrap = WRAPPERS[wrapper]
    check_paths(wrap(config(root)), 'train_dataloader', 'mmseg')
    with pytest.raises(DataError, match=r'data_root .*nowhere'):
        check_paths(wrap(config('/nowhere')), 'train_dataloader', 'mmseg')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            dict(data_prefix=dict(img_path='img_dir/dev')),
            ['img_path', 'img_dir/dev', 'holds train', 'train_dataloader.dataset.data_root'],
        ),
        (dict(data_prefix=dict(seg_map_path='masks')), ['seg_map_path', 'ann_dir, img_dir']),
        (dict(ann_file='train.txt'), ['ann_file', 'train.txt']),
        (dict(img_suffix='.png'), ['no *.png images (found: .jpg)']),
        (dict(data_prefix=dict(img_path='ann_dir/train')), ['no *.jpg images (found: .png)']),
    ],
)
def test_bad_paths(root, changes, words):
    with pytest.raises(DataError) as caught:
        check_paths(config(root, **changes), 'train_dataloader', 'mmseg')
    for word in ('train_dataloader', *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    'changes',
    [
        dict(data_root='s3://bucket/camvid'),
        dict(data_root='', data_prefix=dict(img_path='s3://bucket/images')),
        dict(data_prefix=dict(img_path='')),
        dict(type='ADataset', data_prefix=dict()),  # unknown here: building it will say so
    ],
)
def test_what_cannot_be_checked_passes(root, changes):
    check_paths(config(root, **changes), 'train_dataloader', 'mmseg')


def test_no_dataset():
    check_paths({}, 'train_dataloader')


# --- Labels ---------------------------------------------------------------------------------


def heads(classes):
    return dict(decode_head=dict(num_classes=classes))


def test_good_labels(root):
    assert check_labels(dataset(root), heads(3), samples=200) == 3
    assert check_labels(dataset(root), {}, samples=2) == 2


@pytest.mark.parametrize(('index', 'value'), [(0, 3), (2, 254)])
def test_labels_outside_the_classes(root, index, value):
    save(root, index, [0, value])
    with pytest.raises(DataError) as caught:
        check_labels(dataset(root), heads(3), samples=200)
    for word in (f'{index:03}.png', f'labels [{value}]', '3 classes (0 to 2, and 255', 'label_map'):
        assert word in str(caught.value)


def test_all_files_are_not_read(root):
    """The first and the last are, whatever the number of samples."""
    save(root, 1, [3])
    assert check_labels(dataset(root), heads(3), samples=2) == 2


def test_ignore_index(root):
    save(root, 0, [0, 100])
    assert check_labels(dataset(root, ignore_index=100), heads(3), samples=1) == 1
    with pytest.raises(DataError, match=r'labels \[100\]'):
        check_labels(dataset(root), heads(3), samples=1)


@pytest.mark.parametrize(('values', 'wrong'), [([0, 1, 3, 255], None), ([0, 4], 3)])
def test_reduce_zero_label(root, values, wrong):
    """Label 0 and void 255 are ignored, all others count from one."""
    for i in range(3):
        save(root, i, values)
    data = dataset(root, reduce_zero_label=True)
    if wrong is None:
        assert check_labels(data, heads(3), samples=3) == 3
    else:
        with pytest.raises(DataError, match=rf'labels \[{wrong}\]'):
            check_labels(data, heads(3), samples=3)


class Four(BaseSegDataset):
    METAINFO = dict(classes=('sky', 'road', 'car', 'tree'))


def test_label_map(root):
    """A subset of the classes: the others are mapped to 255, and an unknown label stays wrong."""
    save(root, 0, [0, 1, 2, 3])
    arguments = config(root, metainfo=dict(classes=('road', 'tree')))
    arguments.pop('type')
    data = Four(**arguments)
    assert check_labels(data, heads(2), samples=1) == 1
    save(root, 0, [4])
    with pytest.raises(DataError, match=r'labels \[4\]'):
        check_labels(data, heads(2), samples=1)


def test_head_of_another_size(root):
    with pytest.raises(DataError, match=r'head predicts 2 classes, the dataset has 3 .*to 3'):
        check_labels(dataset(root), heads(2), samples=1)


@pytest.mark.parametrize(
    ('content', 'words'), [(None, 'no label file'), (b'PNG', 'cannot be read')]
)
def test_label_files(root, content, words):
    data = dataset(root)
    path = root / 'ann_dir/train/000.png'
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        check_labels(data, heads(3), samples=1)
    assert str(path) in str(caught.value)


def test_datasets_without_label_images_pass():
    assert check_labels([1, 2], heads(3), samples=1) == 0
