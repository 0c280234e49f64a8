"""One image and its labels on disk: whether they can be read, their sizes and values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import get
from PIL import Image

from mmsigma.datasets.panoptic import VOID, decode

_ORIENTATION, _SIDEWAYS = 274, (5, 6, 7, 8)  # of EXIF; images are turned when they are read


@dataclass
class Sample:
    """What was found in the files of one image.

    Attributes:
        size: Width and height of the image in pixels; None where it cannot be read.
        pixels: How often each label occurs, as training sees it.
        problems: What is wrong: a kind, the same for all files, and this file's own case.
    """

    size: tuple[int, int] | None = None
    pixels: dict[int, int] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def evenly(length: int, samples: int | None) -> list[int]:
    """So many indices below ``length``, evenly spaced, the first and the last among them."""
    number = length if samples is None else min(samples, length)
    return np.unique(np.linspace(0, length - 1, number).astype(int)).tolist()


def trained_values(values: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
    """Labels that training sees for these values of a label file, as mmseg's LoadAnnotations does.

    Args:
        values: Values of the file, as integers of any shape.
        info: What the dataset says of the image.
    """
    if info.get('reduce_zero_label'):
        values = np.where((values == 0) | (values == 255), 255, values - 1)
    if info.get('label_map'):
        renamed = [info['label_map'].get(int(v), int(v)) for v in values.ravel()]
        values = np.array(renamed, values.dtype).reshape(values.shape)
    return values


def examine(info: Mapping[str, Any], classes: int, ignore: int = 255) -> Sample:
    """Read the image and the labels of one entry of a dataset.

    Args:
        info: The entry, as ``get_data_info`` gives it.
        classes: How many classes the labels can be of.
        ignore: The label of pixels to ignore.

    Returns:
        What was found; a file that is not there is not told here.
    """
    sample = Sample()
    path = info['img_path']
    image = _read(path, 'images', sample) if Path(path).exists() else None
    if image is not None:
        turned = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        sample.size = image.size[::-1] if turned else image.size
    listed = (info.get('width'), info.get('height'))
    if sample.size and all(listed) and sample.size != listed:
        case = f'{path} is {_times(sample.size)}, listed as {_times(listed)}'
        sample.problems.append(('images have another size than their annotations say', case))
    for key in ('seg_map_path', 'depth_map_path'):
        if info.get(key) and Path(info[key]).exists():
            examine_map(info[key], info, key, classes, ignore, sample)
    return sample


def examine_map(
    path: str, info: Mapping[str, Any], key: str, classes: int, ignore: int, sample: Sample
) -> None:
    """Read one label file or depth map of an entry, and note in ``sample`` what is there."""
    image = _read(path, 'label files', sample)
    if image is None:
        return
    values = np.asarray(image)
    if sample.size and image.size != sample.size:
        case = f'{path} is {_times(image.size)}, its image {_times(sample.size)}'
        sample.problems.append(('label files have another size than their image', case))
    if 'segments_info' in info:
        listed = {segment['id'] for segment in info['segments_info']} | {VOID}
        found = set(np.unique(decode(values)).tolist())
        if not found & listed - {VOID} and info['segments_info']:
            case = f'{path} has none of its {len(listed) - 1} segments'
            sample.problems.append(('panoptic pictures do not fit their annotations', case))
    elif key == 'depth_map_path':
        if not values.any():
            sample.problems.append(('depth maps are empty', path))
    elif 'instances' not in info:
        if values.ndim != 2:
            case = f'{path} has shape {values.shape}'
            sample.problems.append(('label files hold colours, not one index for a pixel', case))
            return
        given, counts = np.unique(values, return_counts=True)
        for label, count in zip(trained_values(given.astype(int), info), counts, strict=True):
            sample.pixels[int(label)] = sample.pixels.get(int(label), 0) + int(count)
        wrong = [v for v in sample.pixels if v != ignore and not 0 <= v < classes]
        if wrong:
            kind = (
                f'label files have labels that are none of the {classes} classes (0 to '
                f'{classes - 1}, and {ignore} for pixels to ignore; convert them, or set classes, '
                'label_map or reduce_zero_label)'
            )
            sample.problems.append((kind, f'{path} has labels {sorted(wrong)[:8]}'))


def _read(path: str, what: str, sample: Sample) -> Image.Image | None:
    """A picture; None, and the reason noted, where it cannot be read."""
    try:
        image = Image.open(BytesIO(get(path)))
        image.load()
        return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        sample.problems.append((f'{what} cannot be read', f'{path} ({error})'))
        return None


def _times(size: tuple[Any, ...]) -> str:
    return f'{size[0]}x{size[1]}'
