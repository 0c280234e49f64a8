"""PASCAL Context, 59 classes and background: ``data/VOCdevkit/VOC2010``.

Labels are drawn from the annotations of PASCAL in Detail into ``SegmentationClassContext``, later
annotations over earlier ones: 0 is background, which mmseg's 59-class data set drops.

Usage: ``python tools/dataset_converters/pascal_context.py VOCtrainval_03-May-2010.tar
trainval_merged.json``
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from conversion.command import run
from conversion.convert import convert
from conversion.dataset import Dataset, Split
from conversion.labels import encode
from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import DataError

ARCHIVE, JSON = 'VOCtrainval_03-May-2010.tar', 'trainval_merged.json'
LISTS = 'VOC2010/ImageSets/SegmentationContext'
LABELS = 'VOC2010/SegmentationClassContext'
DATASET = Dataset(
    title='PASCAL Context',
    folder='VOCdevkit',
    site='host.robots.ox.ac.uk/pascal/VOC/voc2010 (images) and PASCAL in Detail (the JSON file)',
    archives={ARCHIVE: 'da459979d0c395079b5c75ee67908abb', JSON: None},
    members=(
        (r'(VOC2010/JPEGImages/[^/]+\.jpg)', r'\1'),
        (r'trainval_merged\.json', rf'VOC2010/{JSON}'),
    ),
    splits=tuple(
        Split(
            name, 'VOC2010/JPEGImages', LABELS, None, f'{ARCHIVE} and {JSON}',
            names=f'{LISTS}/{name}.txt',
        )
        for name in ('train', 'val')
    ),
)  # fmt: skip
# The 59 most frequent of 459 categories; their order is that of the classes.
CATEGORIES = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113,
    115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326,
    347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
INDEX = {category: index for index, category in enumerate(CATEGORIES, 1)}


def draw(job: tuple[dict[str, Any], list[dict[str, Any]]]) -> bytes:
    """The label image of an image and its annotations."""
    import numpy as np
    from pycocotools import mask as masks  # neither is needed for --help

    image, annotations = job
    labels = np.zeros((image['height'], image['width']), np.uint8)
    for annotation in annotations:
        category = annotation['category_id']
        if category not in INDEX:
            raise DataError(
                f'{image["file_name"]} has an annotation of category {category}, which is none of '
                f'the {len(INDEX)} of PASCAL Context.'
            )
        labels[masks.decode(annotation['segmentation']).astype(bool)] = INDEX[category]
    return encode(labels)


def write_labels(root: Path, workers: int) -> None:
    """Write the labels and the lists of both splits."""
    path = root / 'VOC2010' / JSON
    if not path.exists():
        return  # what is missing is told at the end
    try:
        content = json.loads(path.read_bytes())
        images, annotations = content['images'], content['annos_segmentation']
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path} is not the annotation file of PASCAL in Detail: {error!r}. Delete it, and '
            f'give {JSON}.'
        ) from error
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        of_image[annotation['image_id']].append(annotation)
    for split in ('train', 'val'):
        members = [image for image in images if image['phase'] == split]
        names = [Path(image['file_name']).stem for image in members]
        work = [(image, of_image[image['image_id']]) for image in members]
        targets = [root / LABELS / f'{name}.png' for name in names]
        convert(list(zip(work, targets, strict=True)), draw, f'{split} labels', workers)
        write(root / LISTS / f'{split}.txt', ''.join(f'{n}\n' for n in sorted(names)).encode())


if __name__ == '__main__':
    run(DATASET, write_labels)
