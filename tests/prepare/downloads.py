"""Tiny archives with the members and formats of the official ones, and what comes of them."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as masks
from scipy.io import savemat

SIZE = (6, 8)
Archives = dict[str, Any]  # archive name -> member -> bytes; bytes alone for a plain file


def image(size: tuple[int, int] = SIZE, form: str = 'JPEG') -> bytes:
    """A picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return encode(noise, form)


def encode(array: np.ndarray, form: str = 'PNG', palette: bool = False) -> bytes:
    picture = Image.fromarray(array)
    if palette:
        picture = picture.convert('P') if picture.mode != 'L' else picture
        picture.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def label(*values: int, palette: bool = False, size: tuple[int, int] = SIZE) -> bytes:
    """A label image: columns of these values, in turn."""
    row = np.resize(np.array(values, np.uint8), size[1])
    return encode(np.tile(row, (size[0], 1)), palette=palette)


def write(archives: Archives, folder: Path) -> list[Path]:
    """Write archives into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, members in archives.items():
        path = folder / name
        if isinstance(members, bytes):
            path.write_bytes(members)
        elif name.endswith('.zip'):
            path.write_bytes(zipped(members))
        else:
            with tarfile.open(path, 'w:gz' if name.endswith('gz') else 'w') as tar:
                for member, data in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return [folder / name for name in archives]


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return buffer.getvalue()


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


def ade20k() -> Archives:
    top = 'ADEChallengeData2016'
    members = {f'{top}/objectInfo150.txt': b'Idx', f'{top}/sceneCategories.txt': b'a'}
    for split, short, count in (('training', 'train', 3), ('validation', 'val', 2)):
        for i in range(1, count + 1):
            name = f'ADE_{short}_{i:08}'
            members[f'{top}/images/{split}/{name}.jpg'] = image()
            members[f'{top}/annotations/{split}/{name}.png'] = label(0, i, 150)
    return {f'{top}.zip': members}


def cityscapes() -> Archives:
    images, labels = {'README': b'', 'license.txt': b''}, {'README': b''}
    for split, count in (('train', 3), ('val', 2), ('test', 1)):
        for i in range(count):
            name = f'{split}/ulm/ulm_{i:06}_000019'
            images[f'leftImg8bit/{name}_leftImg8bit.png'] = image(form='PNG')
            labels[f'gtFine/{name}_gtFine_labelIds.png'] = label(0, 7, 33, 26, 1)
            labels[f'gtFine/{name}_gtFine_color.png'] = image(form='PNG')
            labels[f'gtFine/{name}_gtFine_polygons.json'] = b'{}'
    return {'leftImg8bit_trainvaltest.zip': images, 'gtFine_trainvaltest.zip': labels}


def coco() -> Archives:
    splits = {'train2017': range(1, 4), 'val2017': range(7, 9)}
    archives: Archives = {
        f'{split}.zip': {f'{split}/{i:012}.jpg': image() for i in numbers}
        for split, numbers in splits.items()
    }
    instances, panoptic = {}, {}
    for split, numbers in splits.items():
        images = [
            dict(id=i, file_name=f'{i:012}.jpg', height=SIZE[0], width=SIZE[1]) for i in numbers
        ]
        box = dict(bbox=[1, 1, 4, 4], area=16, iscrowd=0, category_id=1)
        polygon = dict(segmentation=[[1, 1, 5, 1, 5, 5, 1, 5]])
        content = dict(images=images, categories=[dict(id=1, name='person', isthing=1)])
        found = [dict(id=i, image_id=i, **box, **polygon) for i in numbers]
        instances[f'annotations/instances_{split}.json'] = json.dumps(
            dict(content, annotations=found)
        ).encode()
        found = [
            dict(image_id=i, file_name=f'{i:012}.png', segments_info=[dict(id=1, **box)])
            for i in numbers
        ]
        panoptic[f'annotations/panoptic_{split}.json'] = json.dumps(
            dict(content, annotations=found)
        ).encode()
        panoptic[f'annotations/panoptic_{split}.zip'] = zipped({
            f'panoptic_{split}/{i:012}.png': image(form='PNG') for i in numbers
        } | {'__MACOSX/panoptic_val2017/._000000000001.png': b'x'})  # fmt: skip
    archives['annotations_trainval2017.zip'] = instances
    archives['panoptic_annotations_trainval2017.zip'] = panoptic
    return archives


def coco_stuff() -> Archives:
    splits = {'train2017': range(1, 4), 'val2017': range(7, 9)}
    archives: Archives = {
        f'{split}.zip': {f'{split}/{i:012}.jpg': image() for i in numbers}
        for split, numbers in splits.items()
    }
    archives['stuffthingmaps_trainval2017.zip'] = {
        f'{split}/{i:012}.png': label(0, 10, 12, 26, 91, 181, 255)
        for split, numbers in splits.items()
        for i in numbers
    }
    return archives


def pascal_context() -> Archives:
    voc, images, found = {}, [], []
    for i, phase in enumerate(('train', 'train', 'train', 'val', 'val', 'none')):
        name = f'2008_{i:06}'
        voc[f'VOCdevkit/VOC2010/JPEGImages/{name}.jpg'] = image()
        voc[f'VOCdevkit/VOC2010/Annotations/{name}.xml'] = b'<a/>'
        if phase == 'none':
            continue
        images.append(
            dict(image_id=i, file_name=f'{name}.jpg', phase=phase, height=SIZE[0], width=SIZE[1])
        )
        for j, (category, columns) in enumerate(((2, (1, 6)), (458, (4, 8)))):
            mask = np.zeros(SIZE, np.uint8, order='F')
            mask[:, slice(*columns)] = 1
            code = masks.encode(mask)
            code['counts'] = code['counts'].decode()
            found.append(dict(id=2 * i + j, image_id=i, category_id=category, segmentation=code))
    content = json.dumps(dict(images=images, annos_segmentation=found)).encode()
    return {'VOCtrainval_03-May-2010.tar': voc, 'trainval_merged.json': content}


def voc_aug() -> Archives:
    top, voc, sbd = 'VOCdevkit/VOC2012', {}, {}
    # Of five images of VOC's own, SBD has a training and a validation image, and two more.
    lists = {'train': ['a0', 'a1', 'a2'], 'val': ['v0', 'v1']}
    for split, names in lists.items():
        voc[f'{top}/ImageSets/Segmentation/{split}.txt'] = '\n'.join(names).encode() + b'\n'
        for name in names:
            voc[f'{top}/SegmentationClass/{name}.png'] = label(0, 20, 255, palette=True)
    for name in (*lists['train'], *lists['val'], 's0', 's1', 'unlabelled'):
        voc[f'{top}/JPEGImages/{name}.jpg'] = image()
    for name in ('a0', 'v0', 's0', 's1'):
        buffer = io.BytesIO()
        segmentation = np.tile(np.array([3, 0], np.uint8), (SIZE[0], SIZE[1] // 2))
        savemat(buffer, {'GTcls': {'Segmentation': segmentation, 'Boundaries': np.zeros(2)}})
        sbd[f'benchmark_RELEASE/dataset/cls/{name}.mat'] = buffer.getvalue()
    sbd['benchmark_RELEASE/dataset/train.txt'] = b'a0\ns0\n'
    sbd['benchmark_RELEASE/dataset/val.txt'] = b'v0\ns1\n'
    return {'VOCtrainval_11-May-2012.tar': voc, 'benchmark.tgz': sbd}


def voc_detection() -> Archives:
    archives: Archives = {}
    for year, split, archive, count in (
        (2007, 'trainval', 'VOCtrainval_06-Nov-2007.tar', 3),
        (2007, 'test', 'VOCtest_06-Nov-2007.tar', 2),
        (2012, 'trainval', 'VOCtrainval_11-May-2012.tar', 2),
    ):
        top = f'VOCdevkit/VOC{year}'
        names = [f'{split}{i}' for i in range(count)]
        box = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>'
        xml = (
            f'<annotation><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>'
            f'<object><name>dog</name><difficult>0</difficult>{box}</object></annotation>'
        )
        archives[archive] = {
            f'{top}/ImageSets/Main/{split}.txt': '\n'.join(names).encode(),
            **{f'{top}/JPEGImages/{name}.jpg': image() for name in names},
            **{f'{top}/Annotations/{name}.xml': xml.encode() for name in names},
        }
    return archives


def loveda() -> Archives:
    archives: Archives = {}
    for split, count in (('Train', 2), ('Val', 1), ('Test', 1)):
        members = {}
        for i, place in enumerate(('Rural', 'Urban')):
            for j in range(count):
                top = f'{split}/{place}'
                members[f'{top}/images_png/{10 * i + j}.png'] = image(form='PNG')
                if split != 'Test':
                    members[f'{top}/masks_png/{10 * i + j}.png'] = label(0, 1, 7)
        archives[f'{split}.zip'] = members
    return archives


def potsdam() -> Archives:
    size = (600, 1030)
    colours = np.zeros((*size, 3), np.uint8)
    colours[:, :500] = (255, 255, 255)
    colours[:, 520:] = (255, 255, 0)
    colours[0, 0] = (252, 255, 0)  # as some published ones have
    colours[-1, -1] = (0, 0, 255)
    return {
        '2_Ortho_RGB.zip': {
            f'2_Ortho_RGB/top_potsdam_{place}_RGB.tif': image(size, 'TIFF')
            for place in ('2_10', '7_13')
        },
        '5_Labels_all_noBoundary.zip': {
            f'top_potsdam_{place}_label_noBoundary.tif': encode(colours, 'TIFF')
            for place in ('2_10', '7_13')
        },
    }


def bdd100k() -> Archives:
    images, labels = {}, {}
    for split, count in (('train', 3), ('val', 2), ('test', 1)):
        for i in range(count):
            images[f'bdd100k/images/10k/{split}/{i:08}-0.jpg'] = image()
            if split != 'test':
                labels[f'bdd100k/labels/sem_seg/masks/{split}/{i:08}-0.png'] = label(0, 18, 255)
                labels[f'bdd100k/labels/sem_seg/colormaps/{split}/{i:08}-0.png'] = label(9)
    return {'bdd100k_images_10k.zip': images, 'bdd100k_sem_seg_labels_trainval.zip': labels}


def mapillary() -> Archives:
    members = {'config_v1.2.json': b'{}', 'config_v2.0.json': b'{}'}
    for split, count in (('training', 3), ('validation', 2)):
        for i in range(count):
            members[f'{split}/images/m{i}.jpg'] = image()
            members[f'{split}/v1.2/labels/m{i}.png'] = label(13, 24, 8, 0, 58, 65, palette=True)
            members[f'{split}/v2.0/labels/m{i}.png'] = label(123)
    return {'An-ZjB1Zm61yAZG0ozTymz8.zip': members}


def gta() -> Archives:
    images = {f'images/{i:05}.png': image(form='PNG') for i in range(1, 6)}
    labels = {f'labels/{i:05}.png': label(0, 7, 33, 34, palette=True) for i in range(1, 4)}
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[:, 4:] = (119, 11, 32)
    labels['labels/00004.png'] = encode(colours)
    labels['labels/00005.png'] = label(7, size=(5, 8))  # not as large as its image
    halves = [
        dict(list(part.items())[a:b]) for part in (images, labels) for a, b in ((0, 2), (2, 5))
    ]
    return dict(
        zip(
            ('01_images.zip', '02_images.zip', '01_labels.zip', '02_labels.zip'),
            halves,
            strict=True,
        )
    )


def nyu() -> Archives:
    members = {}
    lists: dict[str, list[str]] = {'train': [], 'test': []}
    for split, scenes in (('train', ('bath_0001a', 'bed_0002')), ('test', ('bath', 'bed'))):
        for scene in scenes:
            for i in range(2 if split == 'train' else 1):
                rgb, depth = f'{scene}/rgb_{i:05}.jpg', f'{scene}/sync_depth_{i:05}.png'
                members[f'nyu/{rgb}'] = image()
                members[f'nyu/{depth}'] = encode(np.full(SIZE, 2500, np.uint16))
                slash = '/' if split == 'train' else ''
                lists[split].append(f'{slash}{rgb} {slash}{depth} 518.8579')
    members['nyu/extra/rgb_00000.jpg'] = image()
    for split, lines in lists.items():
        members[f'nyu/nyu_{split}.txt'] = '\n'.join(lines).encode() + b'\n'
    return {'nyu.zip': members}


ADE, VOC10, VOC12 = 'ade/ADEChallengeData2016', 'VOCdevkit/VOC2010', 'VOCdevkit/VOC2012'
SEG_LISTS = 'ImageSets/Segmentation'
DOWNLOADS = {
    'ade20k': Download(
        ade20k,
        ('ADEChallengeData2016.zip', 'annotations/validation/ADE_val_00000002.png'),
        [
            (seg('ADE20KDataset', ADE, 'images/training', 'annotations/training'), 3),
            (seg('ADE20KDataset', ADE, 'images/validation', 'annotations/validation'), 2),
        ],
        {f'{ADE}/annotations/training/ADE_train_00000003.png': [0, 3, 150]},
    ),
    'cityscapes': Download(
        cityscapes,
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
        coco,
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
        coco_stuff,
        ('stuffthingmaps_trainval2017.zip', '000000000008'),
        [
            (seg('COCOStuffDataset', 'coco_stuff164k', f'images/{s}', f'annotations/{s}'), n)
            for s, n in (('train2017', 3), ('val2017', 2))
        ],
        {
            'coco_stuff164k/annotations/val2017/000000000007_labelTrainIds.png': [
                0, 10, 11, 24, 80, 170, 255,
            ]
        },
    ),
    'pascal_context': Download(
        pascal_context,
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
        voc_aug,
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
        voc_detection,
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
        loveda,
        ('Val.zip', 'masks_png/10.png'),
        [
            (seg('LoveDADataset', 'loveDA', f'img_dir/{s}', f'ann_dir/{s}'), n)
            for s, n in (('train', 4), ('val', 2))
        ],
        {'loveDA/ann_dir/val/10.png': [0, 1, 7]},
    ),
    'potsdam': Download(
        potsdam,
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
        bdd100k,
        ('bdd100k_images_10k.zip', 'val/00000001-0.jpg'),
        [
            (seg('BDD100KDataset', 'bdd100k', f'images/10k/{s}', f'labels/sem_seg/masks/{s}'), n)
            for s, n in (('train', 3), ('val', 2))
        ],
        {'bdd100k/labels/sem_seg/masks/val/00000000-0.png': [0, 18, 255]},
    ),
    'mapillary': Download(
        mapillary,
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
        gta,
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
        nyu,
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
