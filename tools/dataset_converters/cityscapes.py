"""Cityscapes with fine labels, 19 classes: ``data/cityscapes``.

``*_labelTrainIds.png``, which mmseg trains on, are written beside the published ``*_labelIds.png``
and equal those that ``cityscapesscripts`` draws from the polygons: both draw the same polygons in
the same order.

Usage: ``python tools/dataset_converters/cityscapes.py leftImg8bit_trainvaltest.zip
gtFine_trainvaltest.zip``
"""

import sys
from pathlib import Path

from conversion.command import run
from conversion.convert import convert
from conversion.dataset import Dataset, Split
from conversion.labels import CITYSCAPES_IDS, encode, read, translate

IMAGES, LABELS = 'leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'
SUFFIXES = {
    'image_suffix': '_leftImg8bit.png',
    'label_suffix': '_gtFine_labelTrainIds.png',
}
BOTH = f'{IMAGES} and {LABELS}'
DATASET = Dataset(
    title='Cityscapes',
    folder='cityscapes',
    site='cityscapes-dataset.com, after registration',
    archives={IMAGES: None, LABELS: None},
    members=(
        (r'leftImg8bit/((?:train|val|test)/[^/]+/[^/]+_leftImg8bit\.png)', r'leftImg8bit/\1'),
        (
            r'gtFine/((?:train|val)/[^/]+/[^/]+_gtFine_'
            r'(?:labelIds\.png|instanceIds\.png|polygons\.json))',
            r'gtFine/\1',
        ),
    ),
    splits=(
        Split('train', 'leftImg8bit/train', 'gtFine/train', 2975, BOTH, **SUFFIXES),
        Split('val', 'leftImg8bit/val', 'gtFine/val', 500, BOTH, **SUFFIXES),
        Split('test', 'leftImg8bit/test', None, 1525, IMAGES, '_leftImg8bit.png', optional=True),
    ),
)


def train_ids(path: Path) -> bytes:
    """Train ids of a file of label ids."""
    return encode(translate(read(path), CITYSCAPES_IDS, path))


def write_labels(root: Path, workers: int) -> None:
    """Write the train ids of all label ids below ``root``."""
    sources = sorted((root / 'gtFine').glob('*/*/*_gtFine_labelIds.png'))
    jobs = [(p, p.with_name(p.name.replace('labelIds', 'labelTrainIds'))) for p in sources]
    convert(jobs, train_ids, 'train ids', workers)


if __name__ == '__main__':
    sys.exit(run(DATASET, write_labels))
