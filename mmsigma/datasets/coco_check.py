"""Checks of annotation files in COCO's format, before a long run starts.

What mmdet itself leaves out is let pass: boxes without area, crowds (which count as ignored),
images without annotations where ``filter_cfg`` says so.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmsigma.errors import DataError

_PARTS = ('images', 'annotations', 'categories')


def check_annotations(
    path: Path,
    name: str,
    classes: Sequence[str] = (),
    images: Path | None = None,
    pictures: Path | None = None,
    filter_cfg: Mapping[str, Any] | None = None,
) -> None:
    """Check one file: a second for 5,000 images, some ten for COCO's training split.

    Args:
        path: A JSON file of instances or of panoptic segments.
        name: What it is for, e.g. ``train_dataloader``.
        classes: The dataset's classes, in the order of their labels; all where empty.
        images: Folder of the images.
        pictures: Folder of the panoptic PNG files.
        filter_cfg: The dataset's, where it drops images; None where it keeps all.

    Raises:
        DataError: No such JSON; annotations of images or categories that it does not list; images
            that are listed and missing; other classes than its categories, or in another order; no
            image that is left to train on.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f'{name}: {path} is no JSON file: {error}.') from error
    if not isinstance(content, dict) or not {'images', 'categories'} <= content.keys():
        raise DataError(
            f"{name}: {path} is not in COCO's format: it needs {', '.join(_PARTS)} and has "
            f'{", ".join(list(content)[:6]) if isinstance(content, dict) else "a list"}.'
        )
    listed = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    _check_classes(path, name, classes, list(names.values()))

    used: dict[Any, set] = {}  # categories by image
    for annotation in content.get('annotations', ()):
        parts = annotation.get('segments_info', (annotation,))
        used.setdefault(annotation['image_id'], set()).update(p['category_id'] for p in parts)
    missing = [str(image) for image in used if image not in listed]
    if missing:
        raise DataError(
            f'{name}: {path} has annotations of {len(missing)} images that it does not list (ids '
            f'{_some(missing)}). Add them to its images, or remove the annotations.'
        )
    unknown = sorted({c for found in used.values() for c in found} - names.keys(), key=str)
    if unknown:
        raise DataError(
            f'{name}: {path} has annotations of categories that it does not list (ids '
            f'{_some(map(str, unknown))}; it lists {_some(map(str, names))}). Add them to its '
            'categories, or remove the annotations.'
        )
    files = [image['file_name'] for image in listed.values() if 'file_name' in image]
    _check_files(path, name, images, files, 'images', 'img')
    if 'annotations' in content:
        files = [f'{Path(file).with_suffix(".png")}' for file in files]
        _check_files(path, name, pictures, files, 'panoptic pictures', 'seg')

    if filter_cfg is not None:
        wanted = {c for c, title in names.items() if not classes or title in classes}
        smallest = filter_cfg.get('min_size', 0)
        kept = [
            image
            for key, image in listed.items()
            if min(image['width'], image['height']) >= smallest
            and (not filter_cfg.get('filter_empty_gt') or used.get(key, set()) & wanted)
        ]
        if not kept:
            raise DataError(
                f'{name}: of {len(listed)} images in {path} none is left: filter_cfg '
                f'{dict(filter_cfg)} drops images that are smaller or have no annotation.'
            )


def _check_classes(path: Path, name: str, classes: Sequence[str], names: list[str]) -> None:
    absent = [title for title in classes if title not in names]
    if absent:
        raise DataError(
            f'{name}: {len(absent)} of {len(classes)} classes are no category of {path}: '
            f'{_some(absent)}; it has {_some(names)}. Set metainfo=dict(classes=...) of the '
            'dataset to its names, and num_classes of the head to their number.'
        )
    order = [title for title in names if title in classes]
    if classes and order != list(classes):
        raise DataError(
            f'{name}: the classes are not in the order of the categories of {path} '
            f'({_some(order)}), by which mmdet numbers them. Set metainfo=dict(classes=...) to '
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
            f'{_some(missing)}. Set data_prefix.{key} to where they are, or remove them from the '
            'file.'
        )


def check_heads(classes: Sequence[str], heads: Mapping[str, int]) -> None:
    """Check that every head predicts as many classes as the dataset has.

    Raises:
        DataError: A head of another size.
    """
    for name, count in heads.items():
        if count != len(classes):
            raise DataError(
                f'{name} predicts {count} classes, the dataset has {len(classes)} '
                f'({_some(classes)}). Set num_classes of the head to {len(classes)}, or '
                'metainfo=dict(classes=...) of the dataset.'
            )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')
