"""COCO 2017 for detection, instance and panoptic segmentation: ``data/coco``.

Usage: ``python tools/dataset_converters/coco.py train2017.zip val2017.zip
annotations_trainval2017.zip``, with ``panoptic_annotations_trainval2017.zip`` for panoptic
segmentation.
"""

from pathlib import Path

from conversion.command import run
from conversion.dataset import Dataset, Split

PANOPTIC = 'panoptic_annotations_trainval2017.zip'
DATASET = Dataset(
    title='COCO 2017',
    folder='coco',
    site='cocodataset.org',
    archives={
        'train2017.zip': None,
        'val2017.zip': None,
        'annotations_trainval2017.zip': None,
        PANOPTIC: None,
        'test2017.zip': None,
    },
    members=(
        (r'((?:train|val|test)2017/\d{12}\.jpg)', r'\1'),
        (r'(annotations/[^/]+2017\.json)', r'\1'),
        (r'(panoptic_(?:train|val)2017/\d{12}\.png)', r'annotations/\1'),
    ),
    nested=r'annotations/panoptic_(?:train|val)2017\.zip',
    splits=(
        Split('train2017', 'train2017', None, 118287, 'train2017.zip'),
        Split('val2017', 'val2017', None, 5000, 'val2017.zip'),
        Split('test2017', 'test2017', None, 40670, 'test2017.zip', optional=True),
        Split(
            'panoptic pictures, train2017', 'annotations/panoptic_train2017', None, 118287,
            PANOPTIC, '.png', optional=True,
        ),
        Split(
            'panoptic pictures, val2017', 'annotations/panoptic_val2017', None, 5000,
            PANOPTIC, '.png', optional=True,
        ),
    ),
)  # fmt: skip


def check_files(root: Path, workers: int) -> None:
    """Check that the images and pictures that the annotations list are there."""
    from mmsigma.datasets.coco_check import check_annotations  # not needed for --help

    for split in ('train2017', 'val2017'):
        for kind, pictures in (('instances', None), ('panoptic', f'panoptic_{split}')):
            path = root / f'annotations/{kind}_{split}.json'
            if path.exists() and (root / split).exists():
                folder = root / 'annotations' / pictures if pictures else None
                check_annotations(
                    path, split, images=root / split, pictures=folder, panoptic=bool(pictures)
                )


if __name__ == '__main__':
    run(DATASET, check_files)
