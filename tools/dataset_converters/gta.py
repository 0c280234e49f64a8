"""GTAV (Playing for Data), Cityscapes' 19 classes: ``data/gta``.

``labels/*_labelTrainIds.png`` are written beside the published labels. Some published label images
have another size than their image: such pairs cannot be trained on as they are, and go to
``damaged/images`` and ``damaged/labels``, and their count is told.

Usage: ``python tools/dataset_converters/gta.py 01_images.zip ... 10_images.zip 01_labels.zip ...
10_labels.zip``, or the folder that holds them
"""

from functools import cache
from pathlib import Path

from conversion.command import run
from conversion.convert import convert
from conversion.dataset import Dataset, Split
from conversion.labels import (
    CITYSCAPES_IDS,
    IGNORED,
    encode,
    labels_beside,
    opened,
    read,
    translate,
    translate_colours,
)
from mmsigma.errors import DataError

DATASET = Dataset(
    title='GTAV',
    folder='gta',
    site='download.visinf.tu-darmstadt.de/data/from_games (Playing for Data)',
    archives={f'{i:02}_{kind}.zip': None for kind in ('images', 'labels') for i in range(1, 11)},
    members=((r'((?:images|labels)/\d{5}\.png)', r'\1'),),
    splits=(
        Split(
            'all', 'images', 'labels', 24966, '01_images.zip to 10_labels.zip', '.png',
            '_labelTrainIds.png', aside='damaged/images',
        ),
    ),
)  # fmt: skip
# Colours of what Cityscapes does not evaluate.
OTHERS = (
    (0, 0, 0), (20, 20, 20), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140),
    (180, 165, 180), (150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip


@cache
def colours() -> dict[tuple[int, ...], int]:
    """Train ids of the colours of Cityscapes."""
    from mmseg.utils import cityscapes_palette  # not needed for --help

    evaluated = {tuple(colour): index for index, colour in enumerate(cityscapes_palette())}
    return evaluated | dict.fromkeys(OTHERS, IGNORED)


def train_ids(path: Path) -> bytes | None:
    """Train ids of a label file; None, and the pair put aside, where its image is not as large."""
    image = path.parents[1] / 'images' / path.name
    labels = read(path)
    if image.exists():
        with opened(image) as picture:
            size = picture.size
        if labels.shape[1::-1] != size:
            for file, kind in ((path, 'labels'), (image, 'images')):
                target = path.parents[1] / 'damaged' / kind / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
            return None
    if labels.ndim == 2:
        return encode(translate(labels, CITYSCAPES_IDS, path))
    found, unknown = translate_colours(labels, colours(), IGNORED)
    if unknown:
        raise DataError(f'{path} has {unknown:,} pixels of colours that Cityscapes does not have.')
    return encode(found)


def write_labels(root: Path, workers: int) -> None:
    """Write the train ids of all labels below ``root``."""
    sources = sorted((root / 'labels').glob('[0-9][0-9][0-9][0-9][0-9].png'))
    convert([(path, labels_beside(path)) for path in sources], train_ids, 'train ids', workers)


if __name__ == '__main__':
    run(DATASET, write_labels)
