"""BDD100K semantic segmentation, Cityscapes' 19 classes: ``data/bdd100k``.

Masks are published as train ids and stay as they are.

Usage: ``python tools/dataset_converters/bdd100k.py bdd100k_images_10k.zip
bdd100k_sem_seg_labels_trainval.zip``
"""

from conversion.command import run
from conversion.dataset import Dataset, Split

IMAGES, LABELS = 'bdd100k_images_10k.zip', 'bdd100k_sem_seg_labels_trainval.zip'
BOTH = f'{IMAGES} and {LABELS}'
MASKS = 'labels/sem_seg/masks'
DATASET = Dataset(
    title='BDD100K',
    folder='bdd100k',
    site='bdd-data.berkeley.edu, "10K Images" and "Segmentation", after registration',
    archives={IMAGES: None, LABELS: None},
    members=(
        (r'10k/((?:train|val|test)/[^/]+\.jpg)', r'images/10k/\1'),
        (r'sem_seg/masks/((?:train|val)/[^/]+\.png)', rf'{MASKS}/\1'),
    ),
    splits=(
        Split('train', 'images/10k/train', f'{MASKS}/train', 7000, BOTH),
        Split('val', 'images/10k/val', f'{MASKS}/val', 1000, BOTH),
        Split('test', 'images/10k/test', None, 2000, IMAGES, optional=True),
    ),
)

if __name__ == '__main__':
    run(DATASET)
