"""Masks in COCO's format: polygons and run lengths that mmdet or pycocotools misread."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

_FAR = 1e6  # pixels; pycocotools takes memory by the length of a polygon's edges


def fault(segmentation: Any, height: int, width: int, evaluated: bool = False) -> str:
    """What is wrong with one mask: a name of a rule, or nothing.

    Polygons of fewer than three points beside a good one pass: mmdet drops them.

    Args:
        segmentation: Polygons ``[[x0, y0, x1, y1, ...], ...]`` in pixels, or run lengths
            ``{'size': [height, width], 'counts': [...] or 'text'}``.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        evaluated: pycocotools reads the mask, which judges polygons by the first.
    """
    if isinstance(segmentation, Mapping):
        return _runs_fault(segmentation, height, width)
    if not isinstance(segmentation, list):
        return 'mask form'
    if all(isinstance(polygon, list) for polygon in segmentation):
        return _polygons_fault(segmentation, evaluated)
    return 'mask form' if any(isinstance(v, list) for v in segmentation) else 'flat polygon'


def _polygons_fault(polygons: Sequence[list], evaluated: bool) -> str:
    if all(polygon and all(_is_point(p) for p in polygon) for polygon in polygons):
        return 'polygons of pairs'
    if len(polygons) > 2 and all(_is_point(polygon) for polygon in polygons):
        return 'polygon of pairs'
    good = [len(polygon) > 5 for polygon in polygons]
    if any(len(polygon) % 2 for polygon in polygons):
        return 'odd polygon'
    if not any(good) or (evaluated and not good[0]):
        return 'short polygon'
    for polygon in polygons:
        try:
            if not isfinite(sum(polygon)) or max(polygon) > _FAR or min(polygon) < -_FAR:
                return 'polygon numbers'
        except TypeError:
            return 'polygon numbers'
        except ValueError:  # an empty one beside a good one
            continue
    return ''


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _runs_fault(runs: Mapping[str, Any], height: int, width: int) -> str:
    size, counts = runs.get('size'), runs.get('counts')
    if not isinstance(size, list) or not counts or not isinstance(counts, list | str):
        return 'mask form'
    pixels = sum_of_runs(counts)
    if size != [height, width]:
        swapped = size == [width, height] and pixels == height * width
        return 'runs turned' if swapped else 'runs size'
    return '' if pixels == height * width else 'runs counts'


def sum_of_runs(counts: list | str) -> int | None:
    """How many pixels run lengths cover, which may be in pycocotools' text; None if they are none.

    The text has 5 bits a character, the lowest first, a sixth where more follow. From the fourth
    on, a run is stored as its difference from the last but one.
    """
    if isinstance(counts, list):
        good = all(isinstance(run, int | float) and run >= 0 for run in counts)
        total = sum(counts) if good else None
        return int(total) if total is not None and isfinite(total) else None
    values = np.frombuffer(counts.encode('utf-32-le'), np.uint32).astype(np.int64) - 48
    if values.min() < 0 or values.max() > 63 or values[-1] & 32:
        return None
    last = np.flatnonzero(values < 32)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 7:  # above 32 bits
        return None
    shift = 5 * (np.arange(len(values)) - np.repeat(first, length))
    runs = np.add.reduceat((values & 31) << shift, first)
    runs -= np.where(values[last] & 16, 1 << 5 * length, 0)
    runs[3::2] = np.cumsum(runs[1::2])[1:]
    runs[2::2] = np.cumsum(runs[2::2])
    return None if runs.min() < 0 else int(runs.sum())
