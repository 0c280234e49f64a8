"""Tiny archives with the members and formats of the official ones."""

import io
import json
import tarfile
import zipfile
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
        f'{split}/{i:012}.png': label(0, 10, 12, 24, 26, 91, 181, 255)
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
