"""COCO-Stuff 164k, 171 classes: ``data/coco_stuff164k``.

Train ids are the ids of things and stuff without the eleven that COCO never used, as in mmseg.
Where ``data/coco`` has the images, links to ``train2017`` and ``val2017`` in
``data/coco_stuff164k/images`` do, and their archives need not be given.

Usage: ``python tools/dataset_converters/coco_stuff.py train2017.zip val2017.zip
stuffthingmaps_trainval2017.zip``
"""

from pathlib import Path

from conversion.command import run
from conversion.dataset import Dataset, Split
from conversion.labels import IGNORED, labels_beside, write_translated

LABELS = 'stuffthingmaps_trainval2017.zip'
DATASET = Dataset(
    title='COCO-Stuff 164k',
    folder='coco_stuff164k',
    site='cocodataset.org (images) and github.com/nightrome/cocostuff (labels)',
    archives={'train2017.zip': None, 'val2017.zip': None, LABELS: None},
    members=(
        (r'((?:train|val)2017/\d{12}\.jpg)', r'images/\1'),
        (r'((?:train|val)2017/\d{12}\.png)', r'annotations/\1'),
    ),
    splits=tuple(
        Split(
            name, f'images/{name}', f'annotations/{name}', number, f'{name}.zip and {LABELS}',
            label_suffix='_labelTrainIds.png',
        )
        for name, number in (('train2017', 118287), ('val2017', 5000))
    ),
)  # fmt: skip
# Ids of things without an instance in COCO.
UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
USED = [label for label in range(182) if label not in UNUSED]
TRAIN_IDS = {label: index for index, label in enumerate(USED)} | {IGNORED: IGNORED}


def write_labels(root: Path, workers: int) -> None:
    """Write the train ids of all labels below ``root``."""
    sources = (root / 'annotations').glob(f'*2017/{"[0-9]" * 12}.png')
    write_translated(sources, labels_beside, TRAIN_IDS, workers)


if __name__ == '__main__':
    run(DATASET, write_labels)
