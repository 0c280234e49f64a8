"""Streets: Cityscapes, and the three that a model trained on GTAV is tried on."""

from tests.trees.pictures import write_labels, write_pairs

TRAIN_IDS = [0, 10, 18, 255]


def write_cityscapes(root):
    """Folders by town; train ids beside the ids that they were made from."""
    root = root / 'cityscapes'
    for split, town, count in (('train', 'aachen', 4), ('val', 'ulm', 3)):
        names = [f'{town}_{i:06}_000019' for i in range(count)]
        labels = root / f'gtFine/{split}/{town}'
        images = root / f'leftImg8bit/{split}/{town}', '{}_leftImg8bit.png'
        write_pairs(images, (labels, '{}_gtFine_labelTrainIds.png'), names, TRAIN_IDS)
        for name in names:
            write_labels(labels / f'{name}_gtFine_labelIds.png', [7, 23, 33, 0])


def write_gta(root):
    """GTAV and its three targets."""
    names = [f'{i:05}' for i in range(1, 5)]
    gta = root / 'gta'
    labels = gta / 'labels', '{}_labelTrainIds.png'
    write_pairs((gta / 'images', '{}.png'), labels, names, TRAIN_IDS)
    for name in names:
        write_labels(gta / f'labels/{name}.png', [7, 23, 33, 0])

    write_cityscapes(root)
    bdd = root / 'bdd100k'
    masks = bdd / 'labels/sem_seg/masks/val', '{}.png'
    write_pairs((bdd / 'images/10k/val', '{}.jpg'), masks, ['7d06fefd-f7be05a6'], TRAIN_IDS)
    mapillary = root / 'mapillary'
    own = mapillary / 'cityscapes_trainIdLabel/val/label', '{}.png'
    images = mapillary / 'validation/images', '{}.jpg'
    write_pairs(images, own, ['_1Gn_xkw7sa_i9GU4mkxxQ', '_2bRXmqCRXT5K9WhmRQsYQ'], TRAIN_IDS)
