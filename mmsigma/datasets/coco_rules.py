"""What may be wrong with the values of a file in COCO's format: one table, each with its repair."""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong with the entries of a file.

    Attributes:
        what: What such entries are or have, after "3 of 80 annotations in FILE".
        why: What it does.
        repair: Python on ``d``, the content of the file, and ``parts``, its annotations or
            segments. ``FOLDER`` stands for the folder of the images.
    """

    what: str
    why: str
    repair: str


_IMAGES = 'images = {i["id"]: i for i in d["images"]}; '
_IMAGE = 'for a in d["annotations"] for i in [images[a["image_id"]]]'
_NUMBER_ANEW = '[a.update(id=n) for n, a in enumerate(parts, 1)]'
_MEASURE = (
    'from mmsigma.datasets.coco_values import image_size; '
    '[i.update(zip(("width", "height"), image_size(FOLDER + i["file_name"]))) for i in d["images"]]'
)
_DROP_MASKS = (
    f'from mmsigma.datasets.coco_masks import fault; {_IMAGES}d["annotations"] = [a {_IMAGE} '
    'if not a.get("segmentation") or fault(a["segmentation"], i["height"], i["width"]) != "KIND"]'
)
_DROP_POLYGONS = (
    '[a.update(segmentation=[p for p in a["segmentation"] if len(p) > 5 and len(p) % 2 == 0]) for '
    'a in parts if isinstance(a.get("segmentation"), list) and all(isinstance(p, list) for p in '
    'a["segmentation"])]; d["annotations"] = [a for a in parts if a.get("segmentation") != []]'
)


def _keep(condition: str) -> str:
    """Leave out annotations ``a`` of images ``i``, or segments, that break a condition."""
    return (
        f'{_IMAGES}[b.update(segments_info=[a for a in b["segments_info"] for i in '
        f'[images[b["image_id"]]] if {condition}]) for b in d["annotations"] if "segments_info" in '
        f'b]; d["annotations"] = [a {_IMAGE} if "segments_info" in a or {condition}]'
    )


def _same_type(part: str, key: str, into: str) -> str:
    of = 'd["annotations"]' if key == 'image_id' else 'parts'
    return (
        f'[e.update(id={into}(e["id"])) for e in d["{part}"]]; '
        f'[a.update({key}={into}(a["{key}"])) for a in {of}]'
    )


def _last_of_each(part: str) -> str:
    return f'd["{part}"] = list({{e["id"]: e for e in d["{part}"]}}.values())'


def _mixed(part: str, key: str, into: str) -> Rule:
    return Rule(
        'have ids of several types, or of none that can be compared, annotations counted in',
        'only equal ids of one type, whole numbers or text, find each other',
        _same_type(part, key, into),
    )


RULES = {
    # --- Ids ---
    'image types, numbers': _mixed('images', 'image_id', 'int'),
    'image types, text': _mixed('images', 'image_id', 'str'),
    'category types, numbers': _mixed('categories', 'category_id', 'int'),
    'category types, text': _mixed('categories', 'category_id', 'str'),
    'repeated image': Rule(
        'repeat an id',
        'annotations of one image are read for another; the repair keeps the last of each',
        _last_of_each('images'),
    ),
    'repeated category': Rule(
        'repeat an id',
        'one class would be read as another; the repair keeps the last of each',
        _last_of_each('categories'),
    ),
    'repeated name': Rule(
        'repeat a name',
        'mmdet would number the classes behind it wrongly; the repair makes them one',
        'own = {c["id"]: c["name"] for c in d["categories"]}; '
        'first = {name: i for i, name in reversed(own.items())}; '
        '[a.update(category_id=first[own[a["category_id"]]]) for a in parts]; '
        'd["categories"] = [c for c in d["categories"] if first[c["name"]] == c["id"]]',
    ),
    'zero': Rule(
        'have the id 0', 'pycocotools takes it for "found nothing" and scores too low', _NUMBER_ANEW
    ),
    'repeated': Rule('repeat an id', 'the last of them is read in place of each', _NUMBER_ANEW),
    'no number': Rule('have an id that is no number', 'pycocotools needs one', _NUMBER_ANEW),
    'segment id': Rule(
        'have an id that no pixel can have',
        'ids of segments are whole numbers from 1 to 256**3 - 1; the repair leaves others out',
        _keep('isinstance(a["id"], int) and 0 < a["id"] < 256**3'),
    ),
    'repeated segment': Rule(
        'repeat an id of their image',
        'their pixels would count for each; the repair keeps the last of each',
        '[b.update(segments_info=list({s["id"]: s for s in b["segments_info"]}.values())) '
        'for b in d["annotations"]]',
    ),
    # --- Marks and sizes ---
    'crowd': Rule(
        'have an iscrowd that is neither 0 nor 1',
        'any text counts as a crowd, which is ignored',
        '[a.update(iscrowd=int(str(a["iscrowd"]).lower() in ("1", "true"))) for a in parts '
        'if "iscrowd" in a]',
    ),
    'thing': Rule(
        'have an isthing that is neither 0 nor 1',
        'any text counts as a thing',
        '[c.update(isthing=int(str(c["isthing"]).lower() in ("1", "true"))) '
        'for c in d["categories"]]',
    ),
    'file name': Rule(
        'have a file_name that is no text',
        'no file can be opened by it',
        '[i.update(file_name=str(i["file_name"])) for i in d["images"]]',
    ),
    'no size': Rule(
        'have a width or height that is no whole number above 0',
        'boxes and masks are read by it',
        _MEASURE,
    ),
    'other size': Rule(
        'of those looked at have another size than their file',
        'boxes are cut and masks are drawn by what is listed, pictures turned by EXIF counted in',
        _MEASURE,
    ),
    # --- Boxes ---
    'text in a box': Rule(
        'have numbers written as text in bbox or area',
        'they cannot be compared',
        '[a.update(bbox=[float(v) for v in a["bbox"]], area=float(a["area"])) for a in parts]',
    ),
    'no numbers in a box': Rule(
        'have a bbox or an area that is no finite number',
        'the loss becomes NaN; the repair leaves them out',
        _keep(
            'all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in [*a["bbox"], a["area"]])'
        ),
    ),
    'negative box': Rule(
        'have a box of negative width or height',
        'mmdet leaves them out; a box is [left, top, width, height]',
        '[a.update(bbox=[min(x, x + w), min(y, y + h), abs(w), abs(h)]) '
        'for a in parts for x, y, w, h in [a["bbox"]]]',
    ),
    'negative area': Rule(
        'have a negative area',
        'mmdet leaves them out, pycocotools ignores them',
        '[a.update(area=abs(a["area"])) for a in parts]',
    ),
    'outside': Rule(
        'have a box outside of their image',
        'nothing can be learned from it, nor be found; the repair leaves them out',
        _keep(
            'a["bbox"][0] <= i["width"] and a["bbox"][1] <= i["height"] '
            'and a["bbox"][0] + a["bbox"][2] >= 0 and a["bbox"][1] + a["bbox"][3] >= 0'
        ),
    ),
    'corners': Rule(
        'have a box that reaches beyond its image, and all would fit as [left, top, right, bottom]',
        'a box is [left, top, width, height]',
        '[a.update(bbox=[x, y, r - x, b - y]) for a in parts for x, y, r, b in [a["bbox"]]]',
    ),
    'fractions': Rule(
        'have a box in fractions of the image',
        'boxes are in pixels',
        f'{_IMAGES}[s.update(bbox=[x * i["width"], y * i["height"], w * i["width"], '
        'h * i["height"]], area=w * h * i["width"] * i["height"]) for a in d["annotations"] for i '
        'in [images[a["image_id"]]] for s in a.get("segments_info", [a]) '
        'for x, y, w, h in [s["bbox"]]]',
    ),
    # --- Masks: the names that coco_masks.fault gives ---
    'flat polygon': Rule(
        'have a polygon that stands in no list',
        'a segmentation is a list of polygons',
        '[a.update(segmentation=[a["segmentation"]]) for a in parts if a.get("segmentation") and '
        'isinstance(a["segmentation"], list) and not isinstance(a["segmentation"][0], list)]',
    ),
    'polygons of pairs': Rule(
        'have polygons of [x, y] pairs',
        'a polygon is [x0, y0, x1, y1, ...]',
        '[a.update(segmentation=[[v for q in p for v in q] for p in a["segmentation"]]) for a in '
        'parts if isinstance(a.get("segmentation"), list) and any(isinstance(q, list) '
        'for p in a["segmentation"] for q in p)]',
    ),
    'polygon of pairs': Rule(
        'have a list of [x, y] pairs in place of polygons',
        'a segmentation is [[x0, y0, x1, y1, ...], ...]',
        '[a.update(segmentation=[[v for q in a["segmentation"] for v in q]]) for a in parts if '
        'isinstance(a.get("segmentation"), list) and len(a["segmentation"]) > 2 '
        'and all(len(q) == 2 for q in a["segmentation"])]',
    ),
    'odd polygon': Rule(
        'have a polygon with an odd number of coordinates',
        'each point has two; the repair leaves such polygons out',
        _DROP_POLYGONS,
    ),
    'short polygon': Rule(
        'have a polygon of fewer than three points',
        'mmdet takes none, pycocotools takes a box for it or fails; the repair leaves them out',
        _DROP_POLYGONS,
    ),
    'polygon numbers': Rule(
        'have coordinates of polygons that are no positions in pixels',
        'pycocotools takes all memory; the repair leaves such annotations out',
        _DROP_MASKS,
    ),
    'mask form': Rule(
        'have a segmentation that is neither a list of polygons nor run lengths with their size',
        'mmdet ignores or fails on it; the repair leaves such annotations out',
        _DROP_MASKS,
    ),
    'runs turned': Rule(
        'have run lengths of [width, height]',
        'their size is [height, width]',
        f'{_IMAGES}[a["segmentation"].update(size=[i["height"], i["width"]]) {_IMAGE} if '
        'isinstance(a.get("segmentation"), dict)]',
    ),
    'runs size': Rule(
        'have run lengths of another size than their image',
        'masks of a batch are of one size; the repair leaves such annotations out',
        _DROP_MASKS,
    ),
    'runs counts': Rule(
        'have run lengths that do not add up to their size',
        'what lies behind them is read from memory at random; the repair leaves them out',
        _DROP_MASKS,
    ),
}  # fmt: skip


def describe(
    path: Path, rule: str, ids: Sequence[Any], number: int, entries: str, folder: Path | None
) -> str:
    """One line: how many entries, the first ids, what is wrong, and a command that mends it."""
    known = RULES[rule]
    repair = known.repair.replace('KIND', rule)
    if 'FOLDER' in repair:
        repair = repair.replace('FOLDER', json.dumps(f'{folder or "FOLDER"}/'))
    return (
        f'{len(ids):,} of {number:,} {entries} in {path} {known.what} (ids '
        f'{some(map(str, ids))}): {known.why}. To mend the file: {command(path, repair)}'
    )


def command(path: Path, repair: str) -> str:
    """A line for a shell that changes a file, and keeps the old one with ``.bak`` behind it."""
    code = (
        f'import json, shutil; f = {json.dumps(str(path))}; d = json.load(open(f)); '
        'parts = [s for a in d.get("annotations", []) for s in a.get("segments_info", [a])]; '
        f'{repair}; shutil.copy(f, f + ".bak"); json.dump(d, open(f, "w"))'
    )
    return f'python -c {shlex.quote(code)}'


def some(names: Iterable[str], shown: int = 5, between: str = ', ') -> str:
    """The first of many names."""
    names = list(names)
    more = f' and {len(names) - shown:,} more' if len(names) > shown else ''
    return between.join(names[:shown]) + more
