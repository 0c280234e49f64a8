"""Scenes and aerial images: mmseg's layouts of folders that mirror each other."""

from tests.trees.pictures import write_pairs


def write_ade20k(root):
    """Labels 1 to 150; 0 is none of them."""
    root = root / 'ade/ADEChallengeData2016'
    for split, kind, count in (('training', 'train', 4), ('validation', 'val', 3)):
        names = [f'ADE_{kind}_{i:08}' for i in range(1, count + 1)]
        images = root / f'images/{split}', '{}.jpg'
        write_pairs(images, (root / f'annotations/{split}', '{}.png'), names, [0, 1, 75, 150])


def write_coco_stuff(root):
    """Train ids 0 to 170, and 255."""
    root = root / 'coco_stuff164k'
    for split, count in (('train2017', 4), ('val2017', 3)):
        names = [f'{i:012}' for i in range(1, count + 1)]
        labels = root / f'annotations/{split}', '{}_labelTrainIds.png'
        write_pairs((root / f'images/{split}', '{}.jpg'), labels, names, [0, 90, 170, 255])


def write_loveda(root):
    """Labels 1 to 7; 0 is none of them."""
    _write_tiles(root / 'loveDA', [f'{i}' for i in range(4)], [0, 1, 4, 7])


def write_potsdam(root):
    """Labels 1 to 6; 0 is none of them."""
    _write_tiles(root / 'potsdam', [f'2_10_{i}_0_{i + 512}_512' for i in range(4)], [0, 1, 6])


def _write_tiles(root, names, values):
    for split in ('train', 'val'):
        images, labels = root / f'img_dir/{split}', root / f'ann_dir/{split}'
        write_pairs((images, '{}.png'), (labels, '{}.png'), names, values)
