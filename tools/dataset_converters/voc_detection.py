"""PASCAL VOC 2007 and 2012 detection, 20 classes: ``data/VOCdevkit/VOC2007`` and ``VOC2012``.

The usual protocol trains on trainval of both years and tests on the test set of 2007.

Usage: ``python tools/dataset_converters/voc_detection.py VOCtrainval_06-Nov-2007.tar
VOCtest_06-Nov-2007.tar VOCtrainval_11-May-2012.tar``
"""

from conversion.command import run
from conversion.dataset import Dataset, Split

TRAINVAL_2007, TEST_2007 = 'VOCtrainval_06-Nov-2007.tar', 'VOCtest_06-Nov-2007.tar'
TRAINVAL_2012 = 'VOCtrainval_11-May-2012.tar'
DATASET = Dataset(
    title='PASCAL VOC detection',
    folder='VOCdevkit',
    site='host.robots.ox.ac.uk/pascal/VOC (voc2007 and voc2012)',
    archives={
        TRAINVAL_2007: 'c52e279531787c972589f7e41ab4ae64',
        TEST_2007: 'b6e924de25625d8de591ea690078ad9f',
        TRAINVAL_2012: '6cd6e144f989b92b3379bac3b3de84fd',
    },
    members=(
        (r'(VOC20(?:07|12)/JPEGImages/[^/]+\.jpg)', r'\1'),
        (r'(VOC20(?:07|12)/Annotations/[^/]+\.xml)', r'\1'),
        (r'(VOC20(?:07|12)/ImageSets/Main/[^/]+\.txt)', r'\1'),
    ),
    splits=tuple(
        Split(
            f'{name} of {year}', f'VOC{year}/JPEGImages', f'VOC{year}/Annotations', number,
            archive, label_suffix='.xml', names=f'VOC{year}/ImageSets/Main/{name}.txt',
        )
        for year, name, number, archive in (
            (2007, 'trainval', 5011, TRAINVAL_2007),
            (2007, 'test', 4952, TEST_2007),
            (2012, 'trainval', 11540, TRAINVAL_2012),
        )
    ),
)  # fmt: skip

if __name__ == '__main__':
    run(DATASET)
