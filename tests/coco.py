"""A tiny COCO in COCO's own layout, and leaves of mmdet at sizes of milliseconds."""

import json

import numpy as np
from mmdet.datasets import CocoPanopticDataset
from PIL import Image
from pycocotools import mask as rle

from mmsigma.datasets.panoptic import encode

META = CocoPanopticDataset.METAINFO
SIZE = (60, 80)
# Ids with gaps, as COCO's have.
CATEGORIES = [
    dict(id=3 * i + 1, name=name, isthing=int(name in META['thing_classes']))
    for i, name in enumerate(META['classes'])
]
DOG, CAT, SNOW, ROAD = (
    next(c['id'] for c in CATEGORIES if c['name'] == name)
    for name in ('dog', 'cat', 'snow', 'road')
)


def segments(index):
    """``(category, rows, columns, crowd)`` of image ``index``: things, crowds and stuff."""
    stuff = [(SNOW, (0, 20), (0, 80), 0), (ROAD, (20, 60), (0, 80), 0)]
    if index == 3:
        return stuff  # no thing at all
    if index == 4:
        return [*stuff, (CAT, (30, 50), (10, 70), 1)]  # a crowd alone
    things = [(DOG, (8, 40), (4, 36), 0), (CAT, (16, 56), (44, 74), 0)]
    crowd = [(DOG, (0, 8), (60, 80), 1)] if index == 2 else []
    return [*stuff, *things, *crowd]


def write_split(root, split, count, start=0):
    """Images, instances and panoptic pictures of one split."""
    random = np.random.default_rng(start)
    folder = root / f'annotations/panoptic_{split}'
    for path in (root / split, folder):
        path.mkdir(parents=True)
    images, instances, panoptic = [], [], []
    for i in range(count):
        name = f'{start + i:012}'
        picture = random.integers(0, 30, (*SIZE, 3), np.uint8)
        ids = np.zeros(SIZE, np.int64)
        for number, (category, rows, columns, _) in enumerate(segments(i), 1):
            ids[slice(*rows), slice(*columns)] = 300 * number  # above one byte
            picture[slice(*rows), slice(*columns)] += np.uint8(category % 200)
        found = []
        for number, (category, _, _, crowd) in enumerate(segments(i), 1):
            mask = rle.encode(np.asfortranarray(ids == 300 * number, np.uint8))
            fact = dict(
                id=300 * number,
                category_id=category,
                iscrowd=crowd,
                area=int(rle.area(mask)),
                bbox=rle.toBbox(mask).tolist(),
            )
            found.append(fact)
            if category in (DOG, CAT):
                mask['counts'] = mask['counts'].decode()
                more = dict(id=len(instances) + 1, image_id=start + i, segmentation=mask)
                instances.append({**fact, **more})
        images.append(dict(id=start + i, file_name=f'{name}.jpg', height=SIZE[0], width=SIZE[1]))
        panoptic.append(dict(image_id=start + i, file_name=f'{name}.png', segments_info=found))
        Image.fromarray(picture).save(root / split / f'{name}.jpg', quality=95)
        Image.fromarray(encode(ids)).save(folder / f'{name}.png')
    things = [c for c in CATEGORIES if c['isthing']]
    for kind, annotations, categories in (
        ('instances', instances, things),
        ('panoptic', panoptic, CATEGORIES),
    ):
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / f'annotations/{kind}_{split}.json').write_text(json.dumps(content))


def write_coco(root):
    """Six training and three validation images of 60x80 pixels below ``root``."""
    write_split(root, 'train2017', 6)
    write_split(root, 'val2017', 3, start=100)


_WIDTHS = {'in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'embed_dims'}
_FEW = {'fc_out_channels': 32, 'feedforward_channels': 32, 'num_queries': 12, 'num_feats': 16}
_SCALE = (96, 72)


def shrink(node, widths):
    """Make a config small, in place: narrow layers, short stacks, few queries, small images.

    ``widths`` maps the real trunk's widths to those of the tiny one.
    """
    if isinstance(node, dict) and node.get('type') == 'DINOHead':
        node['embed_dims'] = 32  # upstream's default is 256
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        if isinstance(value, dict | list):
            shrink(value, widths)
        if key in _WIDTHS and isinstance(value, list):
            node[key] = [widths.get(width, 32) for width in value]
        elif key in _WIDTHS:
            node[key] = 32
        elif key in _FEW:
            node[key] = _FEW[key]
        elif key == 'num_layers' or (key == 'num_points' and value > 100):
            node[key] = min(value, 2 if key == 'num_layers' else 32)
        elif key in ('scale', 'crop_size', 'size') and isinstance(value, list | tuple):
            node[key] = _SCALE
