"""Values of COCO files that readers misread are told before training, with a line that mends."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsigma.datasets.coco_check import check_annotations
from mmsigma.datasets.coco_masks import fault, sum_of_runs
from mmsigma.datasets.coco_rules import RULES
from mmsigma.datasets.coco_values import image_size
from mmsigma.errors import DataError

WIDTH, HEIGHT = 64, 48
PIXELS = WIDTH * HEIGHT
BOXES = [[4, 6, 20, 24], [34, 10, 16, 30]]
# The first of them, by columns.
RUNS = [198, 24] + [24, 24] * 19 + [PIXELS - 198 - 24 - 48 * 19]
NAN, INFINITE = float('nan'), float('inf')


def polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def content(panoptic=False):
    """Two objects on each of four images."""
    images = [dict(id=i, file_name=f'{i}.png', width=WIDTH, height=HEIGHT) for i in range(1, 5)]
    categories = [dict(id=1, name='red', isthing=1), dict(id=2, name='green', isthing=1)]
    found = [
        dict(
            id=2 * i + k - 2, image_id=i, category_id=k, bbox=box, area=box[2] * box[3], iscrowd=0,
            segmentation=[polygon(box)],
        )
        for i in range(1, 5)
        for k, box in enumerate(BOXES, 1)
    ]  # fmt: skip
    if panoptic:
        for part in found:
            part.pop('segmentation')
        found = [
            dict(image_id=i, segments_info=[p for p in found if p['image_id'] == i])
            for i in range(1, 5)
        ]
    return json.loads(json.dumps(dict(images=images, annotations=found, categories=categories)))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("it's a folder")
    for i in range(1, 5):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / f'{i}.png')
    return folder


def first(**values):
    return lambda d: parts(d)[0].update(values)


def each(of='parts', **values):
    """Change every object: values, or functions of the object."""

    def change(d):
        for entry in parts(d) if of == 'parts' else d[of]:
            entry.update({k: v(entry) if callable(v) else v for k, v in values.items()})

    return change


def parts(d):
    return [s for a in d['annotations'] for s in a.get('segments_info', [a])]


def ids(part, key, into):
    def change(d):
        for entry in d[part]:
            entry['id'] = into(entry['id'])
        for entry in d['annotations']:
            if key in entry:
                entry[key] = into(entry[key])

    return change


def mask(value):
    return first(segmentation=value)


def runs(size=(HEIGHT, WIDTH), counts=RUNS):
    return mask(dict(size=list(size), counts=counts))


BAD = polygon(BOXES[0])
# Of each case: the rule, the change, the first ids as told, and whether it mends to the original.
CASES = [
    ('zero', ids('annotations', '', lambda i: i - 1), '0', True),
    ('repeated', first(id=2), '2', False),
    ('repeated', each(id=7), '7', False),
    ('no number', each(id=lambda a: f'a{a["id"]}'), 'a1, a2', True),
    ('no number', first(id=[3]), '[3]', True),
    ('image types, numbers', each('images', id=lambda i: str(i['id'])), "'1', '2'", True),
    ('image types, numbers', first(image_id='1'), "'1'", True),
    ('image types, text', lambda d: ids('images', 'image_id', lambda i: 'x' if i == 1 else i)(d),
     "'x'", False),
    ('category types, numbers', first(category_id='1'), "'1'", True),
    ('category types, text', ids('categories', 'category_id', lambda i: [i] if i == 1 else i),
     '[1]', False),
    ('repeated image', lambda d: d['images'].append(dict(d['images'][2])), '3', True),
    ('repeated category', lambda d: d['categories'].append(dict(d['categories'][1])), '2', True),
    ('repeated name', lambda d: d['categories'].append(dict(d['categories'][1], id=9)), '2, 9',
     True),
    ('file name', lambda d: d['images'][1].update(file_name=5), '2', False),
    ('crowd', each(iscrowd='0'), '1, 2, 3, 4, 5 and 3 more', True),
    ('crowd', first(iscrowd=2), '1', True),
    ('no size', lambda d: d['images'][3].update(width=0), '4', True),
    ('no size', each('images', height='48'), '1, 2, 3, 4', True),
    ('no size', lambda d: d['images'][3].update(width=NAN), '4', True),
    ('other size', lambda d: d['images'][0].update(width=HEIGHT, height=WIDTH),
     '1: 48x64 is listed, 64x48 the file', True),
    ('text in a box', first(bbox=['4', '6', '20', '24']), '1', True),
    ('text in a box', first(area='480'), '1', True),
    ('no numbers in a box', first(bbox=[NAN, 6, 20, 24]), '1', False),
    ('no numbers in a box', first(bbox=[4, 6, INFINITE, 24]), '1', False),
    ('no numbers in a box', first(area=NAN), '1', False),
    ('no numbers in a box', first(bbox=[4, 6, 'wide', 24]), '1', False),
    ('negative box', first(bbox=[24, 30, -20, -24]), '1', True),
    ('negative area', first(area=-480), '1', True),
    ('outside', first(bbox=[70, 6, 20, 24]), '1', False),
    ('outside', first(bbox=[4, -60, 20, 24]), '1', False),
    ('corners', each(bbox=lambda a: [*polygon(a['bbox'])[:2], *polygon(a['bbox'])[4:6]]), '2, 4',
     True),
    ('fractions', each(bbox=lambda a: [v / s for v, s in zip(a['bbox'], [64, 48] * 2, strict=True)],
                       area=lambda a: a['area'] / PIXELS), '1, 2', True),
    ('flat polygon', mask(BAD), '1', True),
    ('polygons of pairs', mask([[[4, 6], [24, 6], [24, 30], [4, 30]]]), '1', True),
    ('polygon of pairs', mask([[4, 6], [24, 6], [24, 30], [4, 30]]), '1', True),
    ('odd polygon', mask([[*BAD, 4]]), '1', False),
    ('odd polygon', mask([BAD, [4, 6, 20]]), '1', True),
    ('short polygon', mask([[4, 6, 24, 30]]), '1', False),
    ('short polygon', mask([[]]), '1', False),
    ('short polygon', mask([[4, 6, 24, 30], BAD]), '1', True),
    ('polygon numbers', mask([[4, 6, NAN, 6, 24, 30]]), '1', False),
    ('polygon numbers', mask([[4, 6, -INFINITE, 6, 24, 30]]), '1', False),
    ('polygon numbers', mask([[4, 6, 4e9, 6, 24, 30]]), '1', False),
    ('polygon numbers', mask([[4, 6, '24', 6, 24, 30]]), '1', False),
    ('polygon numbers', mask([[4, 6, None, 6, 24, 30]]), '1', False),
    ('mask form', mask('text'), '1', False),
    ('mask form', mask([BAD, 5]), '1', False),
    ('mask form', mask({'counts': RUNS}), '1', False),
    ('mask form', mask({'size': [HEIGHT, WIDTH], 'counts': 5}), '1', False),
    ('runs turned', runs((WIDTH, HEIGHT)), '1', False),
    ('runs size', runs((HEIGHT + 1, WIDTH), [*RUNS, WIDTH]), '1', False),
    ('runs counts', runs(counts=RUNS[:-1]), '1', False),
    ('runs counts', runs(counts=[*RUNS, 0, 5]), '1', False),
    ('runs counts', runs(counts=[-1, 1, *RUNS]), '1', False),
    ('runs counts', runs(counts='zzzz'), '1', False),
    ('runs counts', runs(counts='é1'), '1', False),
]  # fmt: skip
PANOPTIC = [
    ('thing', each('categories', isthing='0'), '1, 2', False),
    ('segment id', first(id=0), '0', False),
    ('segment id', first(id=256**3), '16777216', False),
    ('segment id', first(id='3'), '3', False),
    ('repeated segment', first(id=2), '2 of image 1', False),
    CASES[5],
    *(case for case in CASES if case[0] in (
         'category types, numbers', 'repeated image', 'repeated category',
        'repeated name', 'crowd', 'no size', 'other size', 'text in a box', 'no numbers in a box',
        'negative box', 'negative area', 'outside', 'corners', 'fractions')),
]  # fmt: skip
SWEEP = [*((False, *case) for case in CASES), *((True, *case) for case in PANOPTIC)]


def check(path, images, panoptic=False, evaluated=True):
    options = dict(panoptic=panoptic, masks=not panoptic, evaluated=evaluated and not panoptic)
    check_annotations(path, 'val_dataloader', ('red', 'green'), images, **options)


def refused(path, images, panoptic=False, evaluated=True):
    with pytest.raises(DataError) as caught:
        check(path, images, panoptic, evaluated)
    return str(caught.value)


def mend(text):
    """Run what the first line of a message says."""
    line = text.splitlines()[0].partition('To mend the file: ')[2]
    python, option, code = shlex.split(line)
    assert (python, option) == ('python', '-c') and '\n' not in code
    exec(code, {})


@pytest.mark.parametrize(
    ('panoptic', 'rule', 'change', 'told', 'restores'),
    SWEEP,
    ids=[f'{"panoptic" if case[0] else "instances"}, {case[1]}' for case in SWEEP],
)
def test_misread_values_are_told_and_mended(
    panoptic, rule, change, told, restores, images, tmp_path
):
    if rule == 'file name':
        images = None
    spoiled = content(panoptic)
    change(spoiled)
    path = tmp_path / "it's.json"
    path.write_text(json.dumps(spoiled))
    text = refused(path, images, panoptic)
    known = RULES[rule]
    assert re.match(r'val_dataloader: \d+ of \d+ \w+ in ', text)
    assert f"it's.json {known.what} (ids {told}" in text
    assert f'): {known.why}. To mend' in text
    assert len(text.splitlines()) == 1

    mend(text)
    check(path, images, panoptic)
    mended = json.loads(path.read_text())
    assert len(parts(mended)) >= len(parts(spoiled)) - 1
    assert (
        (mended == json.loads(json.dumps(content(panoptic))))
        or not restores
        or rule == ('fractions')
    )
    kept = Path(f'{path}.bak').read_text()
    assert kept == json.dumps(spoiled)


def test_every_rule_is_swept():
    assert {case[1] for case in SWEEP} == set(RULES)


def test_fractions_become_pixels(images, tmp_path):
    spoiled = content()
    next(change for rule, change, *_ in CASES if rule == 'fractions')(spoiled)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(spoiled))
    mend(refused(path, images))
    mended = json.loads(path.read_text())['annotations']
    for old, new in zip(content()['annotations'], mended, strict=True):
        assert np.allclose(old['bbox'], new['bbox']) and np.isclose(old['area'], new['area'])


def test_all_kinds_are_told_at_once(images, tmp_path):
    spoiled = content()
    for number, value in enumerate((BAD, [[]], [[*BAD, 1]])):
        spoiled['annotations'][number]['segmentation'] = value
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(spoiled))
    lines = refused(path, images).splitlines()
    assert len(lines) == 3
    rules = ('flat polygon', 'odd polygon', 'short polygon')
    for rule, line in zip(rules, lines, strict=True):
        assert f'1 of 8 annotations in {path} {RULES[rule].what}' in line
    for line in lines:
        mend(line)
    check(path, images)


@pytest.mark.parametrize(
    'change',
    [
        ids('annotations', '', lambda i: i - 1),
        each(id=lambda a: f'a{a["id"]}'),
        mask([[4, 6, 24, 30], BAD]),
    ],
    ids=['zero', 'text', 'a short polygon first'],
)
def test_what_only_pycocotools_misreads_is_trained_on(change, images, tmp_path):
    spoiled = content()
    change(spoiled)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(spoiled))
    check(path, images, evaluated=False)
    refused(path, images)


GOOD = {
    'ids of images from 0': ids('images', 'image_id', lambda i: i - 1),
    'ids of images as text': ids('images', 'image_id', lambda i: f'i{i}'),
    'ids of categories from 0': ids('categories', 'category_id', lambda i: i - 1),
    'whole numbers with a point': ids('images', 'image_id', float),
    'a short polygon behind': mask([BAD, [4, 6, 24, 30], []]),
    'runs': runs(),
    'runs as text': lambda d: runs(counts=as_text(RUNS))(d),
    'a box beyond its image': first(bbox=[-5, 6, 90, 24]),
    'a box without area': first(bbox=[0, 6, 0, 0], area=0),
    'a mark of a crowd': first(iscrowd=True),
}


@pytest.mark.parametrize('name', GOOD)
def test_what_readers_take_passes(name, images, tmp_path):
    given = content()
    GOOD[name](given)
    (tmp_path / 'a.json').write_text(json.dumps(given))
    check(tmp_path / 'a.json', images)


def as_text(counts, size=(HEIGHT, WIDTH)):
    rle = pytest.importorskip('pycocotools.mask')
    return rle.frPyObjects(dict(size=list(size), counts=counts), *size)['counts'].decode()


def test_sum_of_runs_is_that_of_pycocotools():
    random = np.random.default_rng(0)
    rle = pytest.importorskip('pycocotools.mask')
    for size in ((1, 1), (7, 3), (40, 30), (1000, 800)):
        for part in (0, 0.01, 0.5, 1):
            drawn = np.asfortranarray(random.random(size) < part, np.uint8)
            text = rle.encode(drawn)['counts'].decode()
            assert sum_of_runs(text) == size[0] * size[1]
            assert fault({'size': list(size), 'counts': text}, *size) == ''
    for broken in (RUNS[:-1], [*RUNS, 3]):
        assert sum_of_runs(as_text(broken)) == sum(broken)


def test_perfect_predictions_score_one_only_where_the_check_passes(images, tmp_path):
    """Of annotations numbered from 0, pycocotools takes the first for none."""
    metrics = pytest.importorskip('mmdet.evaluation')
    torch = pytest.importorskip('torch')

    def score(path):
        metric = metrics.CocoMetric(ann_file=str(path), metric='bbox')
        metric.dataset_meta = dict(classes=('red', 'green'))
        boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in BOXES], dtype=torch.float)
        for i in range(1, 5):
            found = dict(bboxes=boxes, scores=torch.ones(2), labels=torch.tensor([0, 1]))
            sample = dict(pred_instances=found, img_id=i, ori_shape=(HEIGHT, WIDTH))
            metric.process({}, [sample])
        return metric.evaluate(4)['coco/bbox_mAP']

    spoiled = content()
    ids('annotations', '', lambda i: i - 1)(spoiled)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(spoiled))
    assert score(path) < 0.9
    mend(refused(path, images))
    assert score(path) == 1


def test_images_that_exif_turns(images, tmp_path):
    folder = shutil.copytree(images, tmp_path / 'images')
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(folder / '2.png') as image:
        image.save(folder / '2.png', exif=exif)
    assert image_size(folder / '2.png') == (HEIGHT, WIDTH)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content()))
    text = refused(path, folder)
    assert '(ids 2: 64x48 is listed, 48x64 the file)' in text
    mend(text)
    check(path, folder)
