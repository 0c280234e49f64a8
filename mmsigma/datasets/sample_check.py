"""One image and its labels on disk: whether they can be read, their sizes and values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations
from mmengine.fileio import get
from mmengine.registry import TRANSFORMS
from PIL import Image

from mmsigma.datasets.panoptic import VOID, decode
from mmsigma.datasets.settings import registered

_ORIENTATION, _SIDEWAYS = 274, (5, 6, 7, 8)  # of EXIF; images are turned when they are read
_WIDE = ('I', 'I;16', 'I;16B', 'I;16L', 'F')  # Pillow's modes of more than 8 bits


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


def label_loader(steps: Iterable[Any], scope: str | None = None) -> BaseTransform | None:
    """The step of a pipeline that reads label files; None where none is one of mmcv's kind.

    Args:
        steps: Of the pipeline, built or as configs.
        scope: The config's default scope.
    """
    for step in steps:
        if isinstance(step, LoadAnnotations) and step.with_seg:
            return step
        kind = registered(TRANSFORMS, step, scope) if isinstance(step, Mapping) else None
        if isinstance(kind, type) and issubclass(kind, LoadAnnotations):
            loader: Any = TRANSFORMS.build({**step, 'type': kind})
            if loader.with_seg:
                return loader
    return None


def examine(
    info: Mapping[str, Any],
    classes: int,
    ignore: int | None = 255,
    loader: BaseTransform | None = None,
) -> Sample:
    """Read the image and the labels of one entry of a dataset.

    Args:
        info: The entry, as ``get_data_info`` gives it.
        classes: How many classes the labels can be of.
        ignore: The label of pixels to ignore; None for none.
        loader: What :func:`label_loader` found.

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
            examine_map(info[key], info, key, classes, ignore, sample, loader)
    return sample


def examine_map(
    path: str,
    info: Mapping[str, Any],
    key: str,
    classes: int,
    ignore: int | None,
    sample: Sample,
    loader: BaseTransform | None = None,
) -> None:
    """Read one label file or depth map of an entry, and note in ``sample`` what is there."""
    labels = key == 'seg_map_path' and 'segments_info' not in info and 'instances' not in info
    image = None if labels and loader else _read(path, 'label files', sample)
    values = None if image is None else np.asarray(image)
    if labels and loader:
        values = _load(path, info, loader, sample)
    if values is None:
        return
    size = image.size if image else values.shape[1::-1]
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
            sample.problems.append(('depth maps are empty', path))
    elif labels:
        _note_labels(path, values, info if image else {}, classes, ignore, sample)


def _note_labels(
    path: str,
    values: np.ndarray,
    info: Mapping[str, Any],
    classes: int,
    ignore: int | None,
    sample: Sample,
) -> None:
    """Count labels of shape (H, W), and note those that are no class.

    ``info`` says how the values of a file become labels; it is empty for what a loader gave.
    """
    if values.ndim != 2:
        kind = (
            'label files hold colours, not one index for a pixel (convert them to one channel of '
            f'labels from 0 to {classes - 1})'
        )
        sample.problems.append((kind, f'{path} has shape {values.shape}'))
        return
    if values.dtype == np.uint8:
        occurring = np.bincount(values.ravel())
        given = np.flatnonzero(occurring)
        counts = occurring[given]
    else:
        given, counts = np.unique(values, return_counts=True)
    for label, count in zip(trained_values(given.astype(int), info), counts, strict=True):
        sample.pixels[int(label)] = sample.pixels.get(int(label), 0) + int(count)
    wrong = [v for v in sample.pixels if v != ignore and not 0 <= v < classes]
    if wrong:
        kind = (
            f'label files have labels that are none of the {classes} classes (0 to '
            f'{classes - 1}, and {"none" if ignore is None else ignore} for pixels to ignore; '
            'convert them, or set classes, label_map or reduce_zero_label)'
        )
        sample.problems.append((kind, f'{path} has labels {sorted(wrong)[:8]}'))


def _load(
    path: str, info: Mapping[str, Any], loader: BaseTransform, sample: Sample
) -> np.ndarray | None:
    """Labels as the pipeline's own step loads them; None, and the reason noted, where it fails."""
    data = get(path)
    try:
        if Image.open(BytesIO(data)).mode in _WIDE:
            values = np.asarray(Image.open(BytesIO(data)))
            if values.size and not 0 <= values.min() <= values.max() <= 255:
                kind = 'label files have values that 8 bits do not hold, to which they are loaded'
                sample.problems.append((kind, f'{path} has {values.min()} to {values.max()}'))
                return None
    except (OSError, ValueError, Image.DecompressionBombError):
        pass  # the loader may read what Pillow does not
    try:
        results: Any = loader({**info, 'seg_map_path': path, 'seg_fields': []})
        return results['gt_seg_map']
    except Exception as error:  # whatever a loading step of one's own may raise
        case = f'{path} ({type(loader).__name__}: {error or repr(error)})'
        sample.problems.append(('label files cannot be read', case))
        return None


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
