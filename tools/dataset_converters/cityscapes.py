"""Cityscapes with fine labels, 19 classes: ``data/cityscapes``.

``*_labelTrainIds.png``, which mmseg trains on, are written beside the published ``*_labelIds.png``
and equal those that ``cityscapesscripts`` draws from the polygons: both draw the same polygons in
the same order.

Usage: ``python tools/dataset_converters/cityscapes.py leftImg8bit_trainvaltest.zip
gtFine_trainvaltest.zip``
"""

from pathlib import Path

from conversion.command import run
from conversion.dataset import Dataset, Split
from conversion.labels import CITYSCAPES_IDS, labels_beside, write_translated

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


def write_labels(root: Path, workers: int) -> None:
    """Write the train ids of all label ids below ``root``."""
    sources = (root / 'gtFine').glob('*/*/*_gtFine_labelIds.png')
    write_translated(sources, labels_beside, CITYSCAPES_IDS, workers)


if __name__ == '__main__':
    run(DATASET, write_labels)
