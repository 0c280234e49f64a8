"""What is wrong with annotations in COCO's format is said before training starts."""

import json
import shutil

import pytest
from PIL import Image

from mmsigma.datasets.agreement import wrong_heads
from mmsigma.datasets.check import check_paths
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


def objects(content):
    """Instances, or segments, by the id of their image."""
    found = {}
    for annotation in content['annotations']:
        parts = annotation.get('segments_info', [annotation])
        found.setdefault(annotation['image_id'], []).extend(parts)
    return found


def refused(given):
    with pytest.raises(DataError) as caught:
        check(given)
    return str(caught.value)


@pytest.mark.parametrize('kind', ['instances', 'panoptic'])
def test_good_files_pass(kind, root):
    """Empty images, crowds and boxes without area are good: mmdet has filters for them."""

    def flatten(content):
        for parts in objects(content).values():
            parts[0].update(bbox=[5, 5, 0, 3], area=0)
            parts[0].pop('segmentation', None)

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
        lambda c: ([i.update(width=20) for i in c['images']], each(bbox=[2, 2, 9, 9])(c)),
    ],
    ids=['empty', 'small'],
)
def test_no_image_is_left(change, root):
    edit(root, change)
    for image in json.loads((root / 'annotations/instances_train2017.json').read_text())['images']:
        size = (image['width'], image['height'])
        Image.new('RGB', size).save(root / 'train2017' / image['file_name'])
    assert 'of 6 images' in refused(config(root))
    check(config(root, filter_cfg=None))
    check(config(root, test_mode=True))


def no_things(content):
    isthing = {c['id']: c['isthing'] for c in content['categories']}
    for a in content['annotations']:
        a['segments_info'] = [s for s in a['segments_info'] if not isthing[s['category_id']]]


def each(**values):
    """A change of every instance or segment."""
    return lambda c: [part.update(values) for parts in objects(c).values() for part in parts]


NOTHING = {
    'crowds': each(iscrowd=1),
    'without area': each(area=0),
    'flat': each(bbox=[5, 5, 0.5, 9]),
}


@pytest.mark.parametrize(
    ('kind', 'change'),
    [
        *(pytest.param('instances', change, id=f'instances, {n}') for n, change in NOTHING.items()),
        *(pytest.param('panoptic', change, id=f'panoptic, {n}') for n, change in NOTHING.items()),
        pytest.param('instances', each(bbox=[80, 5, 9, 9]), id='instances, outside'),
        pytest.param('panoptic', no_things, id='panoptic, stuff'),
    ],
)
def test_no_object_is_left(kind, change, root):
    """Where mmdet's panoptic filter leaves no image, its loader dies of an empty list."""
    from mmengine.registry import DATASETS, init_default_scope

    init_default_scope('mmdet')
    edit(root, change, kind)
    given = config(root, kind)
    message = refused(given)
    for part in (f'{kind}_train2017.json', 'of 6 images', 'none is left', 'crowds left out'):
        assert part in message
    if kind == 'panoptic':
        assert 'of a thing' in message
        with pytest.raises(ValueError, match='at least one array'):
            DATASETS.build(given)
    check(config(root, kind, filter_cfg=None))
    check(config(root, kind, filter_cfg={'min_size': 32}))


def test_panoptic_classes_are_all(root):
    """mmdet filters instances of other classes, but no segments."""
    pets = config(root, metainfo={'classes': ('cat', 'dog')})
    check(pets)
    classes = {'classes': ('cat', 'dog'), 'thing_classes': ('cat', 'dog'), 'stuff_classes': ()}
    message = refused(config(root, 'panoptic', metainfo=classes))
    for part in ('segments of 2 categories', 'snow', 'road', 'metainfo'):
        assert part in message


# --- Entries that lack something --------------------------------------------------------------

LACKING = [
    ('instances', 'images', ['id', 'file_name', 'width', 'height']),
    ('instances', 'categories', ['id', 'name']),
    ('instances', 'annotations', ['id', 'image_id', 'category_id', 'bbox', 'area']),
    ('panoptic', 'images', ['id', 'file_name', 'width', 'height']),
    ('panoptic', 'categories', ['id', 'name', 'isthing']),
    ('panoptic', 'annotations', ['image_id', 'segments_info']),
    ('panoptic', 'segments of image 1', ['id', 'category_id', 'bbox', 'area']),
]


@pytest.mark.parametrize('null', [False, True], ids=['absent', 'null'])
@pytest.mark.parametrize(
    ('kind', 'what', 'key'), [(k, w, i) for k, w, keys in LACKING for i in keys]
)
def test_entries_without_a_key(kind, what, key, null, root):
    ids = []

    def change(content):
        entries = objects(content)[1] if 'segments' in what else content[what]
        value = entries[1].pop(key)
        assert value is not None
        if null:
            entries[1][key] = None
        ids.append(entries[1].get('id'))

    edit(root, change, kind)
    message = refused(config(root, kind))
    known = '' if ids[0] is None else f' (id {ids[0]})'
    assert f'{what} in {root}/annotations/{kind}_train2017.json' in message
    assert f'number 1{known} has no {key}.' in message


@pytest.mark.parametrize('box', [[], [1, 2, 3], [1, 2, 3, None], 'xyxy', {'x': 1}])
def test_boxes_that_are_none(box, root):
    edit(root, lambda c: [a.update(bbox=box) for a in c['annotations'][:7]])
    message = refused(config(root))
    assert '7 of 10 annotations' in message
    assert 'number 4 (id 5) has no bbox and 2 more' in message


def test_entries_that_are_none(root):
    edit(root, lambda c: c['annotations'].insert(3, None))
    assert 'number 3 has no image_id, id, category_id, bbox, area' in refused(config(root))


@pytest.mark.parametrize('part', ['images', 'annotations', 'categories'])
@pytest.mark.parametrize('value', [None, {}, 3], ids=str)
def test_parts_that_are_no_lists(part, value, root):
    edit(root, lambda c: c.update({part: value}))
    assert f'{part} is a list there' in refused(config(root))


def test_the_file_of_the_other_kind(root):
    other = {'ann_file': 'annotations/panoptic_train2017.json'}
    assert 'has no id, category_id, bbox, area' in refused(config(root, **other))
    other = {'ann_file': 'annotations/instances_train2017.json'}
    assert 'has no segments_info' in refused(config(root, 'panoptic', **other))


def test_crowds_that_are_not_marked(root):
    """mmdet trains without the mark, pycocotools does not judge without."""
    edit(root, lambda c: [a.pop('iscrowd') for a in c['annotations'][:2]])
    check(config(root))
    assert '2 of 10 annotations' in refused(config(root, test_mode=True))


# --- Masks --------------------------------------------------------------------------------------

MASKS = [{'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}]


@pytest.mark.parametrize('value', [None, []], ids=str)
@pytest.mark.parametrize('crowd', [False, True], ids=['object', 'crowd'])
def test_instances_without_a_mask(crowd, value, root):
    ids = []

    def change(content):
        for annotation in [a for a in content['annotations'] if bool(a['iscrowd']) == crowd][:2]:
            annotation['segmentation'] = value
            ids.append(str(annotation['id']))

    edit(root, change)
    check(config(root, pipeline=[{**MASKS[0], 'with_mask': False}]))
    message = refused(config(root, pipeline=MASKS))
    assert f'2 of 10 annotations in {root}/annotations/instances_train2017.json' in message
    assert f'ids {", ".join(ids)}' in message
    assert '--head' in message


def test_masks_that_nothing_reads(root):
    """Of boxes without area, and of classes that are left out; but pycocotools reads the former."""

    def change(content):
        flat, dog = content['annotations'][:2]
        flat.pop('segmentation')
        flat.update(area=0)
        dog.pop('segmentation')
        flat['category_id'], dog['category_id'] = CAT, DOG

    edit(root, change)
    cats = config(root, pipeline=MASKS, metainfo={'classes': ('cat',)})
    check(cats)
    assert '1 of 5 annotations' in refused({**cats, 'test_mode': True})


@pytest.mark.parametrize(('text', 'words'), [('{', 'no JSON'), ('[]', 'a list'), ('{"a": 1}', 'a')])
def test_other_files(text, words, root):
    (root / 'annotations/instances_train2017.json').write_text(text)
    assert words in refused(config(root))


def test_heads():
    box, mask = dict(num_classes=80), dict(num_classes=80)
    model = dict(roi_head=dict(bbox_head=box, mask_head=mask))
    assert not list(wrong_heads(THINGS, model))
    box['num_classes'] = 2
    (text,) = wrong_heads(('left', 'right'), model)
    for part in ('roi_head.mask_head predicts 80', '2 (left, right)', 'num_classes', 'metainfo'):
        assert part in text


def test_the_tiny_tree_has_the_hard_cases(root):
    """An image without things, a crowd alone, and a crowd beside things."""
    content = json.loads((root / 'annotations/instances_train2017.json').read_text())
    found = {i['id']: [] for i in content['images']}
    for a in content['annotations']:
        found[a['image_id']].append((a['category_id'], a['iscrowd']))
    assert found[3] == []
    assert found[4] == [(CAT, 1)]
    assert found[2] == [(DOG, 0), (CAT, 0), (DOG, 1)]
