"""What is wrong with annotations in COCO's format is said before training starts."""

import json
import shutil

import pytest

from mmsigma.datasets.check import check_paths
from mmsigma.datasets.coco_check import check_heads
from mmsigma.errors import DataError
from tests.coco import CAT, DOG, META, write_coco

THINGS = META['thing_classes']


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    write_coco(root)
    return root


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / 'coco')


def config(root, kind='instances', **changes):
    """A training set as the configs have it."""
    pytest.importorskip('mmdet')
    prefix = {'img': 'train2017'}
    if kind == 'panoptic':
        prefix['seg'] = 'annotations/panoptic_train2017'
    return {
        'type': 'CocoDataset' if kind == 'instances' else 'CocoPanopticDataset',
        'data_root': str(root),
        'ann_file': f'annotations/{kind}_train2017.json',
        'data_prefix': prefix,
        'filter_cfg': {'filter_empty_gt': True, 'min_size': 32},
        **changes,
    }


def check(given):
    check_paths(given, 'train_dataloader', 'mmdet')


def edit(root, change, kind='instances'):
    """Change the annotation file's content."""
    path = root / f'annotations/{kind}_train2017.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(given):
    with pytest.raises(DataError) as caught:
        check(given)
    return str(caught.value)


@pytest.mark.parametrize('kind', ['instances', 'panoptic'])
def test_good_files_pass(kind, root):
    """Empty images, crowds and boxes without area are good: mmdet has filters for them."""

    def flatten(content):
        for annotation in content['annotations']:
            for part in annotation.get('segments_info', [annotation])[:1]:
                part.update(bbox=[5, 5, 0, 3], area=0)

    edit(root, flatten, kind)
    check(config(root, kind))
    check(config(root, kind, filter_cfg=None))


def test_a_part_of_the_classes_passes(root):
    check(config(root, metainfo={'classes': ('cat', 'dog')}))


def test_a_test_set_without_annotations_passes(root):
    edit(root, lambda content: content.pop('annotations'))
    check(config(root, test_mode=True))


@pytest.mark.parametrize('kind', ['instances', 'panoptic'])
def test_annotations_of_images_that_are_not_listed(kind, root):
    edit(root, lambda c: c['annotations'][0].update(image_id=777), kind)
    message = refused(config(root, kind))
    for part in ('train_dataloader', f'{kind}_train2017.json', '1 images', '777'):
        assert part in message


@pytest.mark.parametrize('kind', ['instances', 'panoptic'])
def test_annotations_of_categories_that_are_not_listed(kind, root):
    def change(content):
        annotation = content['annotations'][0]
        annotation.get('segments_info', [annotation])[0]['category_id'] = 9999

    edit(root, change, kind)
    message = refused(config(root, kind))
    for part in ('categories that it does not list', '9999', 'it lists 1, 4, 7'):
        assert part in message


def test_missing_images_and_pictures(root):
    (root / f'train2017/{1:012}.jpg').unlink()
    message = refused(config(root))
    assert f'1 of 6 images that {root}/annotations/instances_train2017.json lists' in message
    assert f'{1:012}.jpg' in message
    assert 'data_prefix.img' in message

    (root / f'annotations/panoptic_train2017/{2:012}.png').unlink()
    edit(root, lambda c: c['images'].pop(1), 'panoptic')
    edit(root, lambda c: c['annotations'].pop(1), 'panoptic')
    message = refused(config(root, 'panoptic'))
    assert '1 of 5 panoptic pictures' in message
    assert 'data_prefix.seg' in message


def test_images_in_folders_below_are_found(root):
    folder = root / 'train2017/a'
    folder.mkdir()
    (root / f'train2017/{1:012}.jpg').rename(folder / 'b.jpg')
    edit(root, lambda c: c['images'][1].update(file_name='a/b.jpg'))
    check(config(root))


def test_classes_that_are_no_categories(root):
    message = refused(config(root, metainfo={'classes': ('cat', 'dgo')}))
    for part in ('1 of 2 classes', 'dgo', 'it has person, bicycle', 'num_classes'):
        assert part in message


def test_classes_in_another_order(root):
    """Upstream numbers them by the file, and would call every dog a cat."""
    message = refused(config(root, metainfo={'classes': ('dog', 'cat')}))
    assert 'order' in message
    assert '(cat, dog)' in message


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c.update(annotations=[]),
        lambda c: [i.update(width=20) for i in c['images']],
    ],
    ids=['empty', 'small'],
)
def test_no_image_is_left(change, root):
    edit(root, change)
    assert 'of 6 images' in refused(config(root))
    check(config(root, filter_cfg=None))
    check(config(root, test_mode=True))


@pytest.mark.parametrize(('text', 'words'), [('{', 'no JSON'), ('[]', 'a list'), ('{"a": 1}', 'a')])
def test_other_files(text, words, root):
    (root / 'annotations/instances_train2017.json').write_text(text)
    assert words in refused(config(root))


def test_heads():
    check_heads(THINGS, {'bbox_head': 80, 'mask_head': 80})
    with pytest.raises(DataError) as caught:
        check_heads(('left', 'right'), {'bbox_head': 2, 'roi_head.mask_head': 80})
    for part in ('roi_head.mask_head predicts 80', '2 (left, right)', 'num_classes', 'metainfo'):
        assert part in str(caught.value)


def test_the_tiny_tree_has_the_hard_cases(root):
    """An image without things, a crowd alone, and a crowd beside things."""
    content = json.loads((root / 'annotations/instances_train2017.json').read_text())
    found = {i['id']: [] for i in content['images']}
    for a in content['annotations']:
        found[a['image_id']].append((a['category_id'], a['iscrowd']))
    assert found[3] == []
    assert found[4] == [(CAT, 1)]
    assert found[2] == [(DOG, 0), (CAT, 0), (DOG, 1)]
