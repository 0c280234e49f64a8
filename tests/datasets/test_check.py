"""What is wrong with the files of a dataset is said before training starts."""

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmsigma.datasets.check import check_paths
from mmsigma.datasets.label_check import check_labels
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


# --- Classes that no file has ---------------------------------------------------------------

LOAD = [dict(type='mmseg.LoadAnnotations')]


def absent(root, samples=9, allowed=(), steps=LOAD):
    """Warnings; what is refused is raised."""
    said = []
    data = dataset(root, pipeline=steps)
    check_labels(data, heads(3), samples, allowed, said.append)
    return said


def test_masks_of_0_and_255(root):
    for i in range(3):
        save(root, i, [0, 0, 0, 255])
    with pytest.raises(DataError) as caught:
        absent(root)
    for word in (
        'no pixel of 2 of 3 classes (road, car) in 3 of 3 label files',
        'labels are 0, 255; 25.0% of the pixels are ignored, which is what 255 means',
        'convert masks of 0 and 255 to 0 and 1',
        "absent=['road', 'car']",
    ):
        assert word in str(caught.value), word
    check_labels(dataset(root), heads(3), 9)  # what is not trained on may lack classes


def test_a_class_that_a_sample_lacks_is_a_warning(root):
    save(root, 0, [0, 1])
    save(root, 2, [0, 1])
    (text,) = absent(root, samples=2)
    assert '1 of 3 classes (car) in 2 of 3 label files' in text
    assert absent(root, samples=3) == []  # 001.png has it


def test_absent_by_name(root):
    for i in range(3):
        save(root, i, [0, 1])
    with pytest.raises(DataError, match=r'\(car\)'):
        absent(root, allowed=['road'])
    assert absent(root, allowed=['car']) == []
    with pytest.raises(DataError, match=r'has cars, which is no class .* It has sky, road, car'):
        absent(root, allowed=['car', 'cars'])


def test_datasets_in_a_wrapper_are_counted_together(root):
    """Each is read, and a class may be in any of them."""
    parts = []
    for labels in ([0, 1], [2]):
        other = root.parent / f'other{labels[0]}/camvid'
        write_camvid(other.parent, dict(train=3))
        for i in range(3):
            save(other, i, labels)
        parts.append(dataset(other, pipeline=LOAD))
    both = ConcatDataset(parts)
    assert check_labels(both, heads(3), 9, ()) == 6
    with pytest.raises(DataError, match=r'\(sky, road\)'):
        check_labels(RepeatDataset(parts[1], times=2), heads(3), 9, ())
    save(other, 1, [9])
    with pytest.raises(DataError, match=r'other2.*labels \[9\]'):
        check_labels(both, heads(3), 9, ())


class Binarize:
    """A user's own step."""

    def __call__(self, results):
        return results


def test_own_steps_may_change_labels(root):
    """What they make of the files is not known, so that nothing is refused for it."""
    for i in range(3):
        save(root, i, [0, 255])
    (text,) = absent(root, steps=[*LOAD, Binarize()])
    assert 'The pipeline has Binarize, which may change this' in text


# --- The loading step -----------------------------------------------------------------------


class Halves(LoadAnnotations):
    """A user's own loader: files hold twice the label."""

    def _load_seg_map(self, results):
        super()._load_seg_map(results)
        results['gt_seg_map'] = results['gt_seg_map'] // 2


def test_labels_are_those_of_the_loader(root):
    for i in range(3):
        save(root, i, [0, 2, 4])
    assert absent(root, steps=[Halves()]) == []
    with pytest.raises(DataError, match=r'labels \[4\]'):
        absent(root)


@pytest.mark.parametrize(('values', 'wrong'), [([0, 1, 2, 3, 255], None), ([0, 4], 3)])
def test_reduce_zero_label_of_the_loader(root, values, wrong):
    for i in range(3):
        save(root, i, values)
    data = dataset(root, reduce_zero_label=True, pipeline=LOAD)
    if wrong is None:
        assert check_labels(data, heads(3), 9, ()) == 3
    else:
        with pytest.raises(DataError, match=rf'labels \[{wrong}\]'):
            check_labels(data, heads(3), 9)


def test_colours(root):
    path = root / 'ann_dir/train/000.png'
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path)
    for steps in ([], LOAD):
        with pytest.raises(DataError, match=r'colours.*one channel .*0 to 2.*shape \(60, 80, 3\)'):
            absent(root, steps=steps)


def test_16_bits(root):
    """mmseg's loader takes the lower 8 bits: 256 would be class 0."""
    path = root / 'ann_dir/train/000.png'
    Image.fromarray(np.full((60, 80), 256, np.uint16)).save(path)
    with pytest.raises(DataError, match=r'8 bits do not hold.*has 256 to 256'):
        absent(root)
    Image.fromarray(np.full((60, 80), 2, np.uint16)).save(path)
    assert absent(root) == []


# --- Files that are not taken ---------------------------------------------------------------


def test_images_that_are_left_out(root):
    images = root / 'img_dir/train'
    Image.new('RGB', (80, 60)).save(images / '003.png')
    (images / '002.jpg').rename(images / '002.JPG')
    (images / 'notes.txt').write_text('')
    left, alone = absent(root)
    for word in (f'2 of 4 images in {images}', "img_suffix='.jpg'", '002.JPG, 003.png'):
        assert word in left, word
    assert '1 label files have no image' in alone and '002.png' in alone
    # A list says what to take.
    (root / 'train.txt').write_text('000\n')
    data = dataset(root, ann_file='train.txt')
    check_labels(data, heads(3), 9, (), warn=pytest.fail)


def test_labels_beside_their_images_are_not_left_out(root):
    for path in (root / 'ann_dir/train').iterdir():
        path.rename(root / 'img_dir/train' / path.name)
    prefix = dict(img_path='img_dir/train', seg_map_path='img_dir/train')
    check_labels(dataset(root, data_prefix=prefix), heads(3), 9, (), warn=pytest.fail)


def test_a_folder_without_labels(root):
    data = dataset(root, data_prefix=dict(img_path='img_dir/train'), pipeline=LOAD)
    with pytest.raises(DataError, match=r'no label file, and LoadAnnotations .*seg_map_path'):
        check_labels(data, heads(3), 9)
