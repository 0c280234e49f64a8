"""ISPRS Potsdam, 6 classes, as tiles of 512 x 512 pixels: ``data/potsdam``.

The tiles are those of mmseg: side by side, the last of a row or column moved back to the edge, so
that an image of 6000 x 6000 pixels gives 12 x 12. 0 is the boundary, and any colour that is no
class; mmseg's ``reduce_zero_label`` drops it.

Usage: ``python tools/dataset_converters/potsdam.py 2_Ortho_RGB.zip 5_Labels_all_noBoundary.zip``
"""

from pathlib import Path

from conversion.command import run
from conversion.convert import for_each
from conversion.dataset import Dataset, Split
from conversion.labels import encode, opened, read, translate_colours
from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import DataError

IMAGES, LABELS = '2_Ortho_RGB.zip', '5_Labels_all_noBoundary.zip'
BOTH = f'{IMAGES} and {LABELS}'
WHOLE = 'whole'  # the published images, before they are cut
SIZE = 512
DATASET = Dataset(
    title='ISPRS Potsdam',
    folder='potsdam',
    site='the ISPRS 2D Semantic Labeling Contest (isprs.org)',
    archives={IMAGES: None, LABELS: None},
    members=((r'(top_potsdam_\d+_\d+_(?:RGB|label_noBoundary)\.tif)', rf'{WHOLE}/\1'),),
    nested=r'(?:2_Ortho_RGB|5_Labels_all_noBoundary)\.zip',
    splits=(
        Split('train', 'img_dir/train', 'ann_dir/train', 3456, BOTH, '.png'),
        Split('val', 'img_dir/val', 'ann_dir/val', 2016, BOTH, '.png'),
    ),
)
VALIDATION = {
    '2_13', '2_14', '3_13', '3_14', '4_13', '4_14', '4_15', '5_13', '5_14', '5_15', '6_13', '6_14',
    '6_15', '7_13',
}  # fmt: skip
COLOURS = {
    (0, 0, 0): 0,  # boundary
    (255, 255, 255): 1,  # impervious surface
    (0, 0, 255): 2,  # building
    (0, 255, 255): 3,  # low vegetation
    (0, 255, 0): 4,  # tree
    (255, 255, 0): 5,  # car
    (255, 0, 0): 6,  # clutter
}
# Some published labels have a few pixels of other colours; more are another kind of image.
MOST_UNKNOWN = 0.05


def starts(length: int) -> list[int]:
    """Where the tiles of a side begin."""
    return sorted({min(start, max(length - SIZE, 0)) for start in range(0, length, SIZE)})


def tiles(path: Path) -> dict[Path, tuple[int, int]]:
    """Files of the tiles of one published image, and their left and upper edges."""
    row, column = path.stem.split('_')[2:4]
    split = 'val' if f'{row}_{column}' in VALIDATION else 'train'
    folder = path.parents[1] / ('ann_dir' if 'label' in path.stem else 'img_dir') / split
    with opened(path) as image:
        width, height = image.size
    return {
        folder / f'{row}_{column}_{x}_{y}_{min(x + SIZE, width)}_{min(y + SIZE, height)}.png': (
            x,
            y,
        )
        for y in starts(height)
        for x in starts(width)
    }


def cut(path: Path) -> None:
    """Write the tiles of one published image, except those that are there already."""
    import numpy as np  # not needed for --help

    missing = {file: place for file, place in tiles(path).items() if not file.exists()}
    if not missing:
        return
    image = read(path)
    if image.ndim != 3 or image.dtype != np.uint8:
        raise DataError(f'{path} has {image.dtype} values of shape {image.shape}, not colours.')
    if 'label' in path.stem:
        image, unknown = translate_colours(image, COLOURS, 0)
        if unknown > MOST_UNKNOWN * image.size:
            raise DataError(f'{path} has {unknown:,} pixels of colours that are no class.')
    for file, (x, y) in missing.items():
        tile = np.ascontiguousarray(image[y : y + SIZE, x : x + SIZE])
        write(file, encode(tile), sync=False)


def write_tiles(root: Path, workers: int) -> None:
    """Cut every published image below ``root``."""
    images = sorted((root / WHOLE).glob('*.tif'))
    for_each(images, cut, 'tiles', min(workers, 2))  # 300 MB of memory each


if __name__ == '__main__':
    run(DATASET, write_tiles)
