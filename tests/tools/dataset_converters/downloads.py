"""Every data set's tiny archives, and what must come of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.tools.dataset_converters import archives as make
from tests.tools.dataset_converters.archives import Archives


@dataclass(frozen=True)
class Download:
    """A data set as it is published.

    Attributes:
        archives: Makes the archives.
        needed: A member whose absence must be told, with its archive.
        datasets: Configs of mmseg's and mmdet's data sets, below the folder of all data, and the
            number of images that each must find.
        labels: Label files and the values that must be in them.
    """

    archives: Callable[[], Archives]
    needed: tuple[str, str]
    datasets: list[tuple[dict[str, Any], int]]
    labels: dict[str, list[int]] = field(default_factory=dict)


def seg(kind: str, root: str, images: str, labels: str, **more: Any) -> dict[str, Any]:
    prefix = dict(img_path=images, seg_map_path=labels)
    return dict(type=f'mmseg.{kind}', data_root=root, data_prefix=prefix, **more)


ADE, VOC10, VOC12 = 'ade/ADEChallengeData2016', 'VOCdevkit/VOC2010', 'VOCdevkit/VOC2012'
SEG_LISTS = 'ImageSets/Segmentation'
DOWNLOADS = {
    'ade20k': Download(
        make.ade20k,
        ('ADEChallengeData2016.zip', 'annotations/validation/ADE_val_00000002.png'),
        [
            (seg('ADE20KDataset', ADE, 'images/training', 'annotations/training'), 3),
            (seg('ADE20KDataset', ADE, 'images/validation', 'annotations/validation'), 2),
        ],
        {f'{ADE}/annotations/training/ADE_train_00000003.png': [0, 3, 150]},
    ),
    'cityscapes': Download(
        make.cityscapes,
        ('leftImg8bit_trainvaltest.zip', 'val/ulm/ulm_000001_000019_leftImg8bit.png'),
        [
            (seg('CityscapesDataset', 'cityscapes', f'leftImg8bit/{s}', f'gtFine/{s}'), n)
            for s, n in (('train', 3), ('val', 2))
        ],
        {
            'cityscapes/gtFine/val/ulm/ulm_000000_000019_gtFine_labelTrainIds.png': [
                0, 13, 18, 255,
            ]
        },
    ),
    'coco': Download(
        make.coco,
        ('train2017.zip', '000000000002.jpg'),
        [
            (
                dict(
                    type=f'mmdet.Coco{kind}Dataset', data_root='coco', metainfo=metainfo,
                    ann_file=f'annotations/{prefix}_{split}.json',
                    data_prefix=dict(img=split, **more),
                ),
                count,
            )
            for split, count in (('train2017', 3), ('val2017', 2))
            for kind, prefix, metainfo, more in (
                ('', 'instances', dict(classes=('person',)), {}),
                (
                    'Panoptic', 'panoptic',
                    dict(classes=('person',), thing_classes=('person',), stuff_classes=()),
                    dict(seg=f'annotations/panoptic_{split}'),
                ),
            )
        ],
    ),
    'coco_stuff': Download(
        make.coco_stuff,
        ('stuffthingmaps_trainval2017.zip', '000000000008'),
        [
            (seg('COCOStuffDataset', 'coco_stuff164k', f'images/{s}', f'annotations/{s}'), n)
            for s, n in (('train2017', 3), ('val2017', 2))
        ],
        {
            'coco_stuff164k/annotations/val2017/000000000007_labelTrainIds.png': [
                0, 10, 11, 23, 24, 80, 170, 255,
            ]
        },
    ),
    'pascal_context': Download(
        make.pascal_context,
        ('VOCtrainval_03-May-2010.tar', 'JPEGImages/2008_000004.jpg'),
        [
            (
                seg(
                    'PascalContextDataset59', VOC10, 'JPEGImages', 'SegmentationClassContext',
                    ann_file=f'ImageSets/SegmentationContext/{s}.txt',
                ),
                n,
            )
            for s, n in (('train', 3), ('val', 2))
        ],
        {f'{VOC10}/SegmentationClassContext/2008_000003.png': [0, 1, 59]},
    ),
    'voc_aug': Download(
        make.voc_aug,
        ('VOCtrainval_11-May-2012.tar', 'SegmentationClass/a1.png'),
        [
            (
                seg('PascalVOCDataset', VOC12, 'JPEGImages', f, ann_file=f'{SEG_LISTS}/{s}.txt'),
                n,
            )
            for s, f, n in (
                ('train', 'SegmentationClass', 3),
                ('aug', 'SegmentationClassAug', 2),
                ('trainaug', 'SegmentationClassAug', 5),
                ('val', 'SegmentationClass', 2),
            )
        ],
        {
            f'{VOC12}/SegmentationClassAug/s1.png': [0, 3],
            f'{VOC12}/SegmentationClassAug/a0.png': [0, 3],
            f'{VOC12}/SegmentationClassAug/a1.png': [0, 20, 255],
        },
    ),
    'voc_detection': Download(
        make.voc_detection,
        ('VOCtest_06-Nov-2007.tar', 'test1.xml'),
        [
            (
                dict(
                    type='mmdet.VOCDataset', data_root='VOCdevkit', test_mode=True,
                    ann_file=f'VOC{year}/ImageSets/Main/{split}.txt',
                    data_prefix=dict(sub_data_root=f'VOC{year}/'),
                ),
                n,
            )
            for year, split, n in ((2007, 'trainval', 3), (2007, 'test', 2), (2012, 'trainval', 2))
        ],
    ),
    'loveda': Download(
        make.loveda,
        ('Val.zip', 'masks_png/10.png'),
        [
            (seg('LoveDADataset', 'loveDA', f'img_dir/{s}', f'ann_dir/{s}'), n)
            for s, n in (('train', 4), ('val', 2))
        ],
        {'loveDA/ann_dir/val/10.png': [0, 1, 7]},
    ),
    'potsdam': Download(
        make.potsdam,
        ('5_Labels_all_noBoundary.zip', 'top_potsdam_7_13_label_noBoundary.tif'),
        [
            (seg('PotsdamDataset', 'potsdam', f'img_dir/{s}', f'ann_dir/{s}'), 6)
            for s in ('train', 'val')
        ],
        {
            'potsdam/ann_dir/val/7_13_0_0_512_512.png': [0, 1],
            'potsdam/ann_dir/train/2_10_518_88_1030_600.png': [0, 2, 5],
        },
    ),
    'bdd100k': Download(
        make.bdd100k,
        ('bdd100k_images_10k.zip', 'val/00000001-0.jpg'),
        [
            (seg('BDD100KDataset', 'bdd100k', f'images/10k/{s}', f'labels/sem_seg/masks/{s}'), n)
            for s, n in (('train', 3), ('val', 2))
        ],
        {'bdd100k/labels/sem_seg/masks/val/00000000-0.png': [0, 18, 255]},
    ),
    'mapillary': Download(
        make.mapillary,
        ('An-ZjB1Zm61yAZG0ozTymz8.zip', 'validation/images/m1.jpg'),
        [
            (
                seg(
                    'CityscapesDataset', 'mapillary', f'{s}/images',
                    f'cityscapes_trainIdLabel/{t}/label', img_suffix='.jpg', seg_map_suffix='.png',
                ),
                n,
            )
            for s, t, n in (('training', 'train', 3), ('validation', 'val', 2))
        ] + [
            (
                seg(
                    'MapillaryDataset_v1', 'mapillary', 'training/images', 'training/v1.2/labels'
                ),
                3,
            )
        ],
        {'mapillary/cityscapes_trainIdLabel/val/label/m1.png': [0, 16, 255]},
    ),
    'gta': Download(
        make.gta,
        ('02_labels.zip', '00003.png'),
        [
            (
                seg(
                    'CityscapesDataset', 'gta', 'images', 'labels', img_suffix='.png',
                    seg_map_suffix='_labelTrainIds.png',
                ),
                4,
            )
        ],
        {
            'gta/labels/00001_labelTrainIds.png': [0, 18, 255],
            'gta/labels/00004_labelTrainIds.png': [18, 255],
        },
    ),
    'nyu': Download(
        make.nyu,
        ('nyu.zip', 'bed/rgb_00000.jpg'),
        [
            (
                dict(
                    type='mmseg.NYUDataset', data_root='nyu',
                    data_prefix=dict(img_path=f'images/{s}', depth_map_path=f'annotations/{s}'),
                ),
                n,
            )
            for s, n in (('train', 4), ('test', 2))
        ],
        {'nyu/annotations/test/bed_00000.png': [2500]},
    ),
}  # fmt: skip
