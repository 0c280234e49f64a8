"""Mapillary Vistas v1.2 as Cityscapes' 19 classes: ``data/mapillary``.

``MERGED`` says which of the 66 classes become which of Cityscapes', as in published work on domain
generalisation (the rule of openseg.pytorch, which Rein's code took over); all others are ignored.
The train ids go to ``cityscapes_trainIdLabel/{train,val}/label``, where Rein's configs look for
them; mmseg's own 66-class data set reads ``*/v1.2/labels``.

Usage: ``python tools/dataset_converters/mapillary.py ARCHIVE`` (whatever its name)
"""

import sys
from pathlib import Path

from conversion.command import run
from conversion.convert import convert
from conversion.dataset import Dataset, Split
from conversion.labels import CITYSCAPES_CLASSES, IGNORED, encode, read, translate

ARCHIVE = 'mapillary-vistas-dataset_public_v2.0.zip'
TRAIN_IDS = 'cityscapes_trainIdLabel'
DATASET = Dataset(
    title='Mapillary Vistas',
    folder='mapillary',
    site='mapillary.com/dataset/vistas (labels of v1.2), after registration',
    archives={ARCHIVE: None},
    members=(
        (r'((?:training|validation|testing)/images/[^/]+\.jpg)', r'\1'),
        (r'(training|validation)/(?:v1\.2/)?labels/([^/]+\.png)', r'\1/v1.2/labels/\2'),
        (r'config(?:_v1\.2)?\.json', 'config_v1.2.json'),
    ),
    splits=(
        Split('training', 'training/images', f'{TRAIN_IDS}/train/label', 18000, 'the archive'),
        Split('validation', 'validation/images', f'{TRAIN_IDS}/val/label', 2000, 'the archive'),
        Split('testing', 'testing/images', None, 5000, 'the archive', optional=True),
    ),
)
# Names of v1.2 in the order of their ids.
CLASSES = (
    'Bird', 'Ground Animal', 'Curb', 'Fence', 'Guard Rail', 'Barrier', 'Wall', 'Bike Lane',
    'Crosswalk - Plain', 'Curb Cut', 'Parking', 'Pedestrian Area', 'Rail Track', 'Road',
    'Service Lane', 'Sidewalk', 'Bridge', 'Building', 'Tunnel', 'Person', 'Bicyclist',
    'Motorcyclist', 'Other Rider', 'Lane Marking - Crosswalk', 'Lane Marking - General',
    'Mountain', 'Sand', 'Sky', 'Snow', 'Terrain', 'Vegetation', 'Water', 'Banner', 'Bench',
    'Bike Rack', 'Billboard', 'Catch Basin', 'CCTV Camera', 'Fire Hydrant', 'Junction Box',
    'Mailbox', 'Manhole', 'Phone Booth', 'Pothole', 'Street Light', 'Pole', 'Traffic Sign Frame',
    'Utility Pole', 'Traffic Light', 'Traffic Sign (Back)', 'Traffic Sign (Front)', 'Trash Can',
    'Bicycle', 'Boat', 'Bus', 'Car', 'Caravan', 'Motorcycle', 'On Rails', 'Other Vehicle',
    'Trailer', 'Truck', 'Wheeled Slow', 'Car Mount', 'Ego Vehicle', 'Unlabeled',
)  # fmt: skip
MERGED = {
    'road': (
        'Road', 'Bike Lane', 'Crosswalk - Plain', 'Parking', 'Service Lane',
        'Lane Marking - Crosswalk', 'Lane Marking - General',
    ),
    'sidewalk': ('Sidewalk', 'Curb', 'Curb Cut', 'Pedestrian Area'),
    'building': ('Building',),
    'wall': ('Wall',),
    'fence': ('Fence',),
    'pole': ('Pole', 'Utility Pole', 'Street Light'),
    'traffic light': ('Traffic Light',),
    'traffic sign': ('Traffic Sign (Front)', 'Traffic Sign (Back)', 'Traffic Sign Frame'),
    'vegetation': ('Vegetation',),
    'terrain': ('Terrain',),
    'sky': ('Sky',),
    'person': ('Person',),
    'rider': ('Bicyclist', 'Motorcyclist', 'Other Rider'),
    'car': ('Car',),
    'truck': ('Truck',),
    'bus': ('Bus',),
    'train': ('On Rails',),
    'motorcycle': ('Motorcycle',),
    'bicycle': ('Bicycle',),
}  # fmt: skip
LABELS = dict.fromkeys(range(len(CLASSES)), IGNORED) | {
    CLASSES.index(name): CITYSCAPES_CLASSES.index(target)
    for target, names in MERGED.items()
    for name in names
}


def train_ids(path: Path) -> bytes:
    """Cityscapes' train ids of a label file."""
    return encode(translate(read(path), LABELS, path))


def write_labels(root: Path, workers: int) -> None:
    """Write the train ids of all labels below ``root``."""
    for split, short in (('training', 'train'), ('validation', 'val')):
        sources = sorted((root / split / 'v1.2/labels').glob('*.png'))
        jobs = [(path, root / TRAIN_IDS / short / 'label' / path.name) for path in sources]
        convert(jobs, train_ids, f'train ids, {split}', workers)


if __name__ == '__main__':
    sys.exit(run(DATASET, write_labels))
