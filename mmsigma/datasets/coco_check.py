"""Checks of annotation files in COCO's format, before a long run starts.

What mmdet itself leaves out is let pass: boxes without area, crowds (which count as ignored),
images without annotations where ``filter_cfg`` says so. Values that it, pycocotools or the
evaluation of panoptic segments would misread are in :data:`mmsigma.datasets.coco_rules.RULES`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmsigma.datasets.coco_rules import some
from mmsigma.datasets.coco_values import check_ids, check_images, check_masks, check_objects
from mmsigma.errors import DataError

_PARTS = ('images', 'annotations', 'categories')


def check_annotations(
    path: Path,
    name: str,
    classes: Sequence[str] = (),
    images: Path | None = None,
    pictures: Path | None = None,
    filter_cfg: Mapping[str, Any] | None = None,
    *,
    panoptic: bool = False,
    masks: bool = False,
    evaluated: bool = False,
) -> None:
    """Check one file: a second for 5,000 images, some twenty for COCO's training split.

    Args:
        path: A JSON file of instances or of panoptic segments.
        name: What it is for, e.g. ``train_dataloader``.
        classes: The dataset's classes, in the order of their labels; all where empty.
        images: Folder of the images.
        pictures: Folder of the panoptic PNG files.
        filter_cfg: The dataset's, where it drops images; None where it keeps all.
        panoptic: The file is one of panoptic segments.
        masks: The pipeline loads the masks of instances.
        evaluated: pycocotools reads the file as the truth of instances.

    Raises:
        DataError: No such JSON; entries that lack what the format has; annotations of images or
            categories that it does not list; images that are listed and missing; other classes
            than its categories, or in another order; instances without the mask that is loaded;
            ids, sizes, boxes or masks that would be misread, with a line that mends the file; no
            image that is left to train on.
    """
    content = _read(path, name)
    annotations = content.get('annotations', [])
    _check_keys(path, name, content, panoptic, evaluated)
    check_ids(path, name, content, panoptic, evaluated)
    listed = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    _check_classes(path, name, classes, list(names.values()))

    found: dict[Any, list] = {}  # instances or segments by image
    for annotation in annotations:
        parts = annotation['segments_info'] if panoptic else [annotation]
        found.setdefault(annotation['image_id'], []).extend(parts)
    missing = [str(image) for image in found if image not in listed]
    if missing:
        raise DataError(
            f'{name}: {path} has annotations of {len(missing)} images that it does not list (ids '
            f'{some(missing)}). Add them to its images, or remove the annotations.'
        )
    used = {part['category_id'] for parts in found.values() for part in parts}
    unknown = sorted(used - names.keys(), key=str)
    if unknown:
        raise DataError(
            f'{name}: {path} has annotations of categories that it does not list (ids '
            f'{some(map(str, unknown))}; it lists {some(map(str, names))}). Add them to its '
            'categories, or remove the annotations.'
        )
    files = [image['file_name'] for image in listed.values() if 'file_name' in image]
    _check_files(path, name, images, files, 'images', 'img')
    if 'annotations' in content:
        files = [f'{Path(file).with_suffix(".png")}' for file in files]
        _check_files(path, name, pictures, files, 'panoptic pictures', 'seg')

    check_images(path, name, content['images'], images)

    wanted = {c for c, title in names.items() if not classes or title in classes}
    others = [title for c, title in names.items() if c in used - wanted]
    if panoptic and others:
        raise DataError(
            f'{name}: {path} has segments of {len(others)} categories that are no classes '
            f'({some(others)}), and mmdet has no filter for them. Set metainfo=dict(classes=...) '
            'to all, or remove the segments.'
        )
    read = [
        (part, listed[image])
        for image, parts in found.items()
        for part in parts
        if part['category_id'] in wanted
    ]
    check_objects(path, name, read, panoptic)
    kept = {
        image: [
            part
            for part in parts
            if part['category_id'] in wanted and _kept(part, listed[image], panoptic)
        ]
        for image, parts in found.items()
    }
    if masks and not panoptic:
        # pycocotools reads those without area too.
        read = [(p, i) for p, i in read if evaluated or _kept(p, i, panoptic)]
        _check_masks(path, name, [part for part, _ in read])
        check_masks(path, name, read, evaluated)
    if filter_cfg is not None:
        things = {c['id'] for c in content['categories'] if not panoptic or c['isthing']}
        smallest = filter_cfg.get('min_size', 0)
        left = [
            image
            for key, image in listed.items()
            if min(image['width'], image['height']) >= smallest
            and (not filter_cfg.get('filter_empty_gt') or _teaches(kept.get(key, ()), things))
        ]
        if not left:
            raise DataError(
                f'{name}: of {len(listed)} images in {path} none is left: filter_cfg '
                f'{dict(filter_cfg)} drops images that are smaller or have no annotation'
                f'{" of a thing" if panoptic else ""} with an area, crowds left out.'
            )


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f'{name}: {path} is no JSON file: {error}.') from error
    if not isinstance(content, dict) or not {'images', 'categories'} <= content.keys():
        raise DataError(
            f"{name}: {path} is not in COCO's format: it needs {', '.join(_PARTS)} and has "
            f'{", ".join(list(content)[:6]) if isinstance(content, dict) else "a list"}.'
        )
    for part in _PARTS:
        if part in content and not isinstance(content[part], list):
            raise DataError(
                f"{name}: {path} is not in COCO's format: {part} is a list there, and here "
                f'{json.dumps(content[part])[:40]}.'
            )
    return content


def _check_keys(
    path: Path, name: str, content: Mapping[str, Any], panoptic: bool, evaluated: bool
) -> None:
    """Check that each entry has what mmdet and pycocotools read without asking."""
    of_object = ['id', 'category_id', 'bbox', 'area', *(['iscrowd'] if evaluated else [])]
    of_annotation = ['segments_info'] if panoptic else of_object
    of_category = ['id', 'name', *(['isthing'] if panoptic else [])]
    annotations = content.get('annotations', [])
    _check_each(path, name, 'images', content['images'], ['id', 'file_name', 'width', 'height'])
    _check_each(path, name, 'categories', content['categories'], of_category)
    _check_each(path, name, 'annotations', annotations, ['image_id', *of_annotation])
    if panoptic:
        for annotation in annotations:
            what = f'segments of image {annotation["image_id"]}'
            _check_each(path, name, what, annotation['segments_info'], of_object)


def _check_each(
    path: Path, name: str, what: str, entries: Sequence[Any], keys: Sequence[str]
) -> None:
    wrong = []
    for number, entry in enumerate(entries):
        absent = [key for key in keys if not _has(entry, key)]
        if absent:
            known = f' (id {entry["id"]})' if _has(entry, 'id') else ''
            wrong.append(f'number {number}{known} has no {", ".join(absent)}')
    if wrong:
        raise DataError(
            f'{name}: {len(wrong)} of {len(entries)} {what} in {path} lack what '
            f"COCO's format has: {some(wrong, between='; ')}. Write what is missing, or remove "
            'them.'
        )


def _has(entry: Any, key: str) -> bool:
    value = entry.get(key) if isinstance(entry, dict) else None
    if key == 'bbox':  # four numbers
        return isinstance(value, list) and len(value) == 4 and None not in value
    if key == 'segments_info':
        return isinstance(value, list)
    # LVIS has addresses of images, from which mmdet makes file names.
    return value is not None or (key == 'file_name' and _has(entry, 'coco_url'))


def _kept(part: Mapping[str, Any], image: Mapping[str, Any], panoptic: bool) -> bool:
    """Whether mmdet keeps an object: not without area, nor outside of its image."""
    x, y, width, height = part['bbox']
    if part['area'] <= 0 or width < 1 or height < 1:
        return False
    inside = -width < x < image['width'] and -height < y < image['height']
    return panoptic or (inside and not part.get('ignore'))


def _teaches(parts: Iterable[Mapping[str, Any]], things: set) -> bool:
    """Whether an image has something to learn.

    mmdet's filter of instances counts crowds and boxes without area as well: an image of nothing
    else is one without objects, which does no harm among others.
    """
    return any(part['category_id'] in things and not part.get('iscrowd') for part in parts)


def _check_masks(path: Path, name: str, annotations: Sequence[Mapping[str, Any]]) -> None:
    without = [str(a['id']) for a in annotations if not a.get('segmentation')]
    if without:
        raise DataError(
            f'{name}: {len(without)} of {len(annotations)} annotations in {path} have no mask, '
            f'and the pipeline loads masks (ids {some(without)}). Give each its segmentation, '
            'remove them, or take a head for boxes alone, whose data loads none (--head).'
        )


def _check_classes(path: Path, name: str, classes: Sequence[str], names: list[str]) -> None:
    absent = [title for title in classes if title not in names]
    if absent:
        raise DataError(
            f'{name}: {len(absent)} of {len(classes)} classes are no category of {path}: '
            f'{some(absent)}; it has {some(names)}. Set metainfo=dict(classes=...) of the '
            'dataset to its names, and num_classes of the head to their number.'
        )
    order = [title for title in names if title in classes]
    if classes and order != list(classes):
        raise DataError(
            f'{name}: the classes are not in the order of the categories of {path} '
            f'({some(order)}), by which mmdet numbers them. Set metainfo=dict(classes=...) to '
            'that order.'
        )


def _check_files(
    path: Path, name: str, folder: Path | None, files: Sequence[str], what: str, key: str
) -> None:
    """One look at the folder, and one at each file that is not at its top."""
    if folder is None or not folder.is_dir():
        return
    there = set(os.listdir(folder))
    missing = [file for file in files if file not in there and not (folder / file).exists()]
    if missing:
        raise DataError(
            f'{name}: {len(missing)} of {len(files)} {what} that {path} lists are not in {folder}: '
            f'{some(missing)}. Set data_prefix.{key} to where they are, or remove them from the '
            'file.'
        )
