"""Label images: read, translate, write.

Importing this imports neither NumPy nor Pillow, which ``--help`` does not need.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from conversion.convert import convert
from mmsigma.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

IGNORED = 255
_UNKNOWN = -1

# Cityscapes' label ids that are evaluated, and their train ids; every other id is ignored.
_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_IDS = {i: IGNORED for i in range(35)} | {
    label: index for index, label in enumerate(_EVALUATED)
}


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image whose file is open.

    Raises:
        DataError: It cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError) as error:  # Pillow raises the latter for broken PNG files
        raise DataError(
            f'{path} cannot be read as an image: {error}. Delete it and run the same command '
            'again, with its archive.'
        ) from error


def read(path: Path) -> np.ndarray:
    """A label image: indices ``(H, W)``, or colours ``(H, W, 3)`` where it has no indices.

    Raises:
        DataError: It cannot be read.
    """
    import numpy as np

    with opened(path) as image:
        coloured = image.mode in ('RGBA', 'CMYK', 'YCbCr')
        return np.asarray(image.convert('RGB') if coloured else image)


def translate(labels: np.ndarray, mapping: Mapping[int, int], path: Path) -> np.ndarray:
    """Replace every value ``(H, W)`` by what it is mapped to.

    Args:
        labels: Values from 0 to 255.
        mapping: To values from 0 to 255; what is not in it is refused.
        path: Where the labels are from, for messages.

    Raises:
        DataError: Colours instead of values, or a value that is not in ``mapping``.
    """
    import numpy as np

    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(
            f'{path} has {labels.dtype} values of shape {labels.shape}, not one index for each '
            'pixel. Are these the label images, and not their coloured pictures?'
        )
    entries = np.full(256, _UNKNOWN, np.int16)
    entries[list(mapping)] = list(mapping.values())
    found = entries[labels]
    if (found == _UNKNOWN).any():
        wrong = np.unique(labels[found == _UNKNOWN]).tolist()
        raise DataError(f'{path} has labels {wrong[:8]}, which the data set does not define.')
    return found.astype(np.uint8)


def translate_colours(
    image: np.ndarray, colours: Mapping[tuple[int, int, int], int], other: int
) -> tuple[np.ndarray, int]:
    """Replace every colour ``(H, W, 3)`` by its label.

    Returns:
        Labels ``(H, W)``, ``other`` where the colour is not known, and how many such pixels.
    """
    import numpy as np

    codes = image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    known = np.array([(r << 16) + (g << 8) + b for r, g, b in colours])
    order = np.argsort(known)
    values = np.array(list(colours.values()), np.uint8)[order]
    index = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    hit = known[order][index] == codes
    return np.where(hit, values[index], np.uint8(other)), int((~hit).sum())


def labels_beside(path: Path) -> Path:
    """Where the train ids of a label file go that stay in its folder."""
    return path.with_name(f'{path.stem.removesuffix("_labelIds")}_labelTrainIds.png')


def write_translated(
    sources: Iterable[Path],
    target: Callable[[Path], Path],
    mapping: Mapping[int, int],
    workers: int,
) -> None:
    """Write the train ids of label files, except those that are there already.

    Args:
        sources: Label files.
        target: Where the train ids of a label file go.
        mapping: See :func:`translate`.
        workers: Threads.

    Raises:
        DataError: All that is wrong with any of them, at the end.
    """

    def train_ids(path: Path) -> bytes:
        return encode(translate(read(path), mapping, path))

    jobs = [(path, target(path)) for path in sorted(sources)]
    convert(jobs, train_ids, 'train ids', workers)


def encode(labels: np.ndarray) -> bytes:
    """An array of bytes ``(H, W)`` or ``(H, W, 3)`` as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, 'PNG')
    return buffer.getvalue()
