"""One image and its labels on disk: whether they can be read, their sizes and values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmsigma.datasets.check import trained_values
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
    path = Path(info['img_path'])
    if path.exists():
        try:
            with Image.open(path) as image:
                sample.size = image.size
                if image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                    sample.size = image.size[::-1]
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            sample.problems.append(('images cannot be read', f'{path} ({error})'))
    listed = (info.get('width'), info.get('height'))
    if sample.size and all(listed) and sample.size != listed:
        case = f'{path} is {_times(sample.size)}, listed as {_times(listed)}'
        sample.problems.append(('images have another size than their annotations say', case))
    for key in ('seg_map_path', 'depth_map_path'):
        if info.get(key) and Path(info[key]).exists():
            _examine_map(Path(info[key]), info, key, classes, ignore, sample)
    return sample


def _examine_map(
    path: Path, info: Mapping[str, Any], key: str, classes: int, ignore: int, sample: Sample
) -> None:
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        sample.problems.append(('label files cannot be read', f'{path} ({error})'))
        return
    size = values.shape[1::-1]
    if sample.size and size != sample.size:
        case = f'{path} is {_times(size)}, its image {_times(sample.size)}'
        sample.problems.append(('label files have another size than their image', case))
    if 'segments_info' in info:
        listed = {segment['id'] for segment in info['segments_info']} | {VOID}
        found = set(np.unique(decode(values)).tolist())
        if not found & listed - {VOID} and info['segments_info']:
            case = f'{path} has none of its {len(listed) - 1} segments'
            sample.problems.append(('panoptic pictures do not fit their annotations', case))
    elif key == 'depth_map_path':
        if not values.any():
            sample.problems.append(('depth maps are empty', str(path)))
    elif 'instances' not in info:
        if values.ndim != 2:
            case = f'{path} has shape {values.shape}'
            sample.problems.append(('label files hold colours, not one index for a pixel', case))
            return
        counts = np.unique(values, return_counts=True)
        for label, count in zip(
            trained_values(counts[0].astype(int), info), counts[1], strict=True
        ):
            sample.pixels[int(label)] = sample.pixels.get(int(label), 0) + int(count)
        wrong = [v for v in sample.pixels if v != ignore and not 0 <= v < classes]
        if wrong:
            kind = (
                f'label files have labels that are no class (0 to {classes - 1}, and {ignore} for '
                'pixels to ignore)'
            )
            sample.problems.append((kind, f'{path} has {sorted(wrong)[:8]}'))


def _times(size: tuple[Any, ...]) -> str:
    return f'{size[0]}x{size[1]}'
