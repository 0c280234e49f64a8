"""Finds values in a file of COCO's format that its readers would misread.

A pass over the entries collects the ids of those that break a rule, by the rule's name in
:data:`mmsigma.datasets.coco_rules.RULES`; all that were found are told at once.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from PIL import Image

from mmsigma.datasets import coco_masks
from mmsigma.datasets.coco_rules import RULES, describe
from mmsigma.datasets.sample_check import evenly
from mmsigma.errors import DataError

_ORIENTATION, _SIDEWAYS = 274, (5, 6, 7, 8)  # of EXIF; images are turned when they are read
_LOOKED_AT = 200  # image files whose size is read

Found = dict[str, list[Any]]
Read = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]  # an object, and its image


def check_ids(
    path: Path, name: str, content: Mapping[str, Any], panoptic: bool, evaluated: bool
) -> None:
    """Check ids of images, categories, annotations and segments, and marks of categories.

    Args:
        path: The file.
        name: What it is for.
        content: The file's, whose entries have all keys.
        panoptic: The file is one of panoptic segments.
        evaluated: pycocotools reads the file.

    Raises:
        DataError: Ids that repeat or cannot be compared, or that a reader takes for another.
    """
    images, categories = content['images'], content['categories']
    annotations = content.get('annotations', [])
    parts = [s for a in annotations for s in a.get('segments_info', [a])]
    _check_types(path, name, 'image', images, 'images', [a['image_id'] for a in annotations])
    of_parts = [part['category_id'] for part in parts]
    _check_types(path, name, 'category', categories, 'categories', of_parts)

    files = [i['id'] for i in images if not isinstance(i.get('file_name', ''), str)]
    found = {'repeated image': _repeated(i['id'] for i in images), 'file name': files}
    _tell(path, name, found, len(images), 'images')
    titles = set(_repeated({c['id']: str(c['name']) for c in categories}.values()))
    found = {
        'repeated category': _repeated(c['id'] for c in categories),
        'repeated name': [c['id'] for c in categories if str(c['name']) in titles],
        'thing': [c['id'] for c in categories if panoptic and not _is_mark(c['isthing'])],
    }
    _tell(path, name, found, len(categories), 'categories')
    if panoptic:
        found = {'segment id': [s['id'] for s in parts if not _is_pixel(s['id'])]}
        if not found['segment id']:
            of_image: dict[Any, list] = defaultdict(list)
            for annotation in annotations:
                of_image[annotation['image_id']] += annotation['segments_info']
            found['repeated segment'] = [
                f'{number} of image {image}'
                for image, segments in of_image.items()
                for number in _repeated(segment['id'] for segment in segments)
            ]
        _tell(path, name, found, len(parts), 'segments')
        return
    ids = [a['id'] for a in annotations]
    if all(isinstance(number, Hashable) for number in ids):
        found = {'repeated': _repeated(ids)}
        if evaluated:
            found['zero'] = [number for number in ids if number == 0]
            found['no number'] = [number for number in ids if not _is_number(number)]
    else:
        found = {'no number': [number for number in ids if not isinstance(number, Hashable)]}
    _tell(path, name, found, len(ids), 'annotations')


def _check_types(
    path: Path, name: str, kind: str, entries: Sequence[Mapping], part: str, others: Sequence[Any]
) -> None:
    """Ids of a list, and where annotations name them, are all numbers or all text."""
    ids = [*(entry['id'] for entry in entries), *others]
    numbers = sum(map(_is_number, ids))
    if numbers == len(ids) or all(isinstance(number, str) for number in ids):
        return
    rare = str if 2 * numbers >= len(ids) else int | float
    wrong = [number for number in ids if isinstance(number, rare) or not _is_id(number)]
    into = 'numbers' if all(map(_is_whole, ids)) else 'text'
    wrong = list(dict.fromkeys(map(repr, wrong)))
    _tell(path, name, {f'{kind} types, {into}': wrong}, len(set(map(repr, ids))), part)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_whole(value: Any) -> bool:
    try:
        return int(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _is_mark(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)


def _is_pixel(value: Any) -> bool:
    return isinstance(value, int) and 0 < value < 256**3


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def check_images(
    path: Path, name: str, images: Sequence[Mapping[str, Any]], folder: Path | None
) -> None:
    """Check the listed sizes, of some evenly spaced images against the files.

    Args:
        path: The file of annotations.
        name: What it is for.
        images: Its entries.
        folder: Where the image files are; None looks at none.

    Raises:
        DataError: Sizes that are none, or not those of the files.
    """
    found: Found = {
        'no size': [
            i['id'] for i in images if not (_is_length(i['width']) and _is_length(i['height']))
        ]
    }
    _tell(path, name, found, len(images), 'images', folder)
    if folder is None:
        return
    other = []
    for index in evenly(len(images), _LOOKED_AT) if images else []:
        image = images[index]
        try:
            size = image_size(folder / image['file_name'])
        except (OSError, KeyError, ValueError):  # missing and broken files are told elsewhere
            continue
        if size != (image['width'], image['height']):
            listed = f'{image["width"]}x{image["height"]}'
            other.append(f'{image["id"]}: {listed} is listed, {size[0]}x{size[1]} the file')
    _tell(path, name, {'other size': other}, len(images), 'images', folder)


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0 and isfinite(value) and value == int(value)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image in pixels, as it is read: turned where EXIF says so."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return (height, width) if turned else (width, height)


def check_objects(path: Path, name: str, read: Read, panoptic: bool) -> None:
    """Check boxes, areas and marks of crowds, in one pass.

    Args:
        path: The file.
        name: What it is for.
        read: Instances or segments that are read, each with its image.
        panoptic: They are segments.

    Raises:
        DataError: Boxes that no image can have, or that are not written as COCO writes them.
    """
    found: Found = defaultdict(list)
    corners = fractions = boxes = 0
    beyond = []
    for part, image in read:
        number, (x, y, w, h), area = part['id'], part['bbox'], part['area']
        if not _is_mark(part.get('iscrowd') or 0):
            found['crowd'].append(number)
        try:
            finite = isfinite(x + y + w + h + area)
        except TypeError:
            finite = False
        if not finite:
            found[_not_finite([x, y, w, h, area])].append(number)
            continue
        if w < 0 or h < 0:
            found['negative box'].append(number)
            continue
        if area < 0:
            found['negative area'].append(number)
        width, height = image['width'], image['height']
        if x > width or y > height or x + w < 0 or y + h < 0:
            found['outside'].append(number)
        # Half a pixel of rounding is in COCO's own boxes.
        elif x + w > width + 1 or y + h > height + 1:
            beyond.append(number)
        if w and h:
            boxes += 1
            corners += x < w <= width + 1 and y < h <= height + 1
            fractions += x + w <= 1.001 and y + h <= 1.001
    if boxes and corners == boxes and len(beyond) >= max(3, boxes / 4):
        found['corners'] = beyond
    if boxes and fractions == boxes:
        found['fractions'] = [part['id'] for part, _ in read]
    _tell(path, name, found, len(read), 'segments' if panoptic else 'annotations')


def _not_finite(values: Sequence[Any]) -> str:
    try:
        good = all(isfinite(float(v)) for v in values)
    except (TypeError, ValueError):
        good = False
    return 'text in a box' if good else 'no numbers in a box'


def check_masks(path: Path, name: str, read: Read, evaluated: bool) -> None:
    """Check polygons and run lengths.

    Args:
        path: The file.
        name: What it is for.
        read: Instances that are read, with a segmentation, each with its image.
        evaluated: pycocotools reads them as the truth.

    Raises:
        DataError: Masks that would be misread.
    """
    found: Found = defaultdict(list)
    for part, image in read:
        mask = part['segmentation']
        rule = coco_masks.fault(mask, image['height'], image['width'], evaluated)
        if rule:
            found[rule].append(part['id'])
    _tell(path, name, found, len(read), 'annotations')


def _tell(
    path: Path,
    name: str,
    found: Mapping[str, list[Any]],
    number: int,
    entries: str,
    folder: Path | None = None,
) -> None:
    lines = [
        describe(path, rule, found[rule], number, entries, folder)
        for rule in RULES
        if found.get(rule)
    ]
    if lines:
        raise DataError('\n'.join(f'{name}: {line}' for line in lines))
