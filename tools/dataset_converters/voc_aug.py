"""PASCAL VOC 2012 segmentation with the labels of SBD, 21 classes: ``data/VOCdevkit/VOC2012``.

``SegmentationClassAug`` gets SBD's labels, and VOC's own where SBD has none, so that it serves
``trainaug.txt`` alone as well as ``aug.txt`` beside VOC's own ``train.txt`` (mmseg's protocol).
Validation is on VOC's own ``SegmentationClass``.

Usage: ``python tools/dataset_converters/voc_aug.py VOCtrainval_11-May-2012.tar benchmark.tgz``
"""

from pathlib import Path

from conversion.command import run
from conversion.convert import convert
from conversion.dataset import Dataset, Split
from conversion.labels import encode
from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import DataError

VOC, SBD = 'VOCtrainval_11-May-2012.tar', 'benchmark.tgz'
OWN, AUG = 'VOC2012/SegmentationClass', 'VOC2012/SegmentationClassAug'
LISTS = 'VOC2012/ImageSets/Segmentation'
DATASET = Dataset(
    title='PASCAL VOC 2012 aug',
    folder='VOCdevkit',
    site='host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOC) and the Semantic Boundaries Dataset of '
    'Berkeley (SBD)',
    archives={VOC: '6cd6e144f989b92b3379bac3b3de84fd', SBD: '82b4d87ceb2ed10f6038a1cba92111cb'},
    members=(
        (r'(VOC2012/JPEGImages/[^/]+\.jpg)', r'\1'),
        (r'(VOC2012/SegmentationClass/[^/]+\.png)', r'\1'),
        (r'(VOC2012/ImageSets/Segmentation/(?:train|val|trainval)\.txt)', r'\1'),
        (r'dataset/(cls/[^/]+\.mat|train\.txt|val\.txt)', r'VOCaug/dataset/\1'),
    ),
    splits=tuple(
        Split(
            name, 'VOC2012/JPEGImages', labels, number, archives, names=f'{LISTS}/{name}.txt'
        )
        for name, labels, number, archives in (
            ('train', OWN, 1464, VOC),
            ('val', OWN, 1449, VOC),
            ('aug', AUG, 9118, f'{VOC} and {SBD}'),
            ('trainaug', AUG, 10582, f'{VOC} and {SBD}'),
        )
    ),
)  # fmt: skip


def labels_of(path: Path) -> bytes:
    """SBD's labels of one image."""
    import numpy as np
    from scipy.io import loadmat  # neither is needed for --help

    try:
        labels = loadmat(path)['GTcls'][0]['Segmentation'][0].astype(np.uint8)
    except Exception as error:  # scipy has no base class for broken files
        raise DataError(
            f'{path} cannot be read as labels of SBD: {error!r}. Delete it and run the same '
            f'command again, with {SBD}.'
        ) from error
    return encode(labels)


def write_labels(root: Path, workers: int) -> None:
    """Write ``SegmentationClassAug`` and the lists ``aug.txt`` and ``trainaug.txt``."""
    mats = sorted((root / 'VOCaug/dataset/cls').glob('*.mat'))
    lists = [root / LISTS / 'train.txt', root / LISTS / 'val.txt']
    lists += [root / 'VOCaug/dataset/train.txt', root / 'VOCaug/dataset/val.txt']
    if not all(path.exists() for path in lists):
        return  # what is missing is told at the end
    train, val, *sbd = (set(path.read_text().split()) for path in lists)
    aug = set().union(*sbd) - train - val
    convert([(p, root / AUG / f'{p.stem}.png') for p in mats], labels_of, 'SBD labels', workers)
    own = [(root / OWN / f'{name}.png', root / AUG / f'{name}.png') for name in train | val]
    own = [(source, target) for source, target in own if source.exists()]
    convert(own, Path.read_bytes, 'VOC labels', workers)
    for name, content in (('aug', aug), ('trainaug', aug | train)):
        write(root / LISTS / f'{name}.txt', ''.join(f'{n}\n' for n in sorted(content)).encode())


if __name__ == '__main__':
    run(DATASET, write_labels)
