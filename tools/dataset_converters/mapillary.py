"""Mapillary Vistas v1.2 as Cityscapes' 19 classes: ``data/mapillary``.

``MERGED`` says which of the 66 classes become which of Cityscapes', as in published work on domain
generalisation (the rule of openseg.pytorch, which Rein's code took over); all others are ignored.
The train ids go to ``cityscapes_trainIdLabel/{train,val}/label``, where Rein's configs look for
them; mmseg's own 66-class data set reads ``*/v1.2/labels``.

Usage: ``python tools/dataset_converters/mapillary.py ARCHIVE`` (whatever its name)
"""

from pathlib import Path

from conversion.command import run
from conversion.dataset import Dataset, Split
from conversion.labels import IGNORED, write_translated

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


def write_labels(root: Path, workers: int) -> None:
    """Write the train ids of all labels below ``root``."""
    from mmseg.datasets import MapillaryDataset_v1  # not needed for --help
    from mmseg.utils import cityscapes_classes

    train_ids = cityscapes_classes()
    merged = {name: train_ids.index(target) for target, names in MERGED.items() for name in names}
    classes = MapillaryDataset_v1.METAINFO['classes']  # in the order of their ids
    mapping = {index: merged.get(name, IGNORED) for index, name in enumerate(classes)}
    for split, short in (('training', 'train'), ('validation', 'val')):
        folder = root / TRAIN_IDS / short / 'label'
        sources = (root / split / 'v1.2/labels').glob('*.png')
        write_translated(sources, lambda p, folder=folder: folder / p.name, mapping, workers)


if __name__ == '__main__':
    run(DATASET, write_labels)
