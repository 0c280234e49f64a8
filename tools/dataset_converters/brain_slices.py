"""Write axial slices of the MNI152 brain template as a 3-class segmentation dataset.

Source: the files inside the PyPI package ``nilearn`` (0.14.1 tried): the ICBM152 2009a symmetric
T1 template, skull-stripped, and its grey- and white-matter probability maps, 197x233x189 voxels
of 1 mm. It is one brain, the average of 152 people, and its labels are tissue priors, not a
drawing by hand: good for showing that training learns something, not for claims about patients.

Classes: 0 background (all else, cerebrospinal fluid included), 1 grey matter, 2 white matter.
Images: 196x238 pixels (multiples of 14) of 1 mm, not resampled. Rows run from left to right and
columns from posterior to anterior. 140 slices have enough tissue: 80 train, 32 validate, and 28
between the two are left out, because slices 1 mm apart are nearly copies of each other.

Layout (mmsegmentation): ``OUT/{img_dir,ann_dir}/{train,val}/zNNN.png``, where NNN is the slice's
index in the template (NNN - 72 mm in MNI space), and ``OUT/dataset.json`` with the counts.

Usage: ``python tools/dataset_converters/brain_slices.py [--out DIR]``
Needs: ``numpy``, ``pillow``, ``nibabel`` and the files of ``nilearn``. The package itself is not
imported, so ``pip install nibabel && pip install --no-deps nilearn`` is enough.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.checkpoint.atomic_write import whole

if TYPE_CHECKING:  # --help needs none of it
    import numpy as np
    import numpy.typing as npt

    UInt8Array = npt.NDArray[np.uint8]
    FloatArray = npt.NDArray[np.floating[Any]]

SOURCE = 'PyPI nilearn, ICBM152 2009a symmetric T1 template and tissue maps, 1 mm'
CLASSES = ('background', 'grey matter', 'white matter')
SPLITS = ('train', 'val')
VOLUME_SHAPE = (197, 233, 189)
IMAGE_SIZE = (196, 238)  # height, width
TEMPLATE = 'datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz'
TISSUE_THRESHOLD = 0.5  # probability
MIN_TISSUE_PIXELS = 1000  # of 46,648 in a slice
TRAIN_BLOCK, VAL_BLOCK, GAP = 20, 8, 4  # slices of 1 mm
FORMAT = 1  # raise when the files written change


def cache_dir() -> Path:
    """Return ``$MMSIGMA_CACHE``, or ``~/.cache/mmsigma`` where it is unset or empty."""
    return Path(os.environ.get('MMSIGMA_CACHE') or '~/.cache/mmsigma').expanduser()


def encode_labels(grey: FloatArray, white: FloatArray) -> UInt8Array:
    """Return class indices (0, 1, 2) from two probability maps (0 to 1) of one shape.

    A voxel is tissue where grey + white >= 0.5, and then of the likelier kind (grey on a tie).
    The threshold is on the sum: on the larger of the two it would draw a thin line of background
    along the border of grey and white matter, where both are a little below 0.5.
    """
    import numpy as np

    if grey.shape != white.shape:
        raise ValueError(f'grey and white maps differ in shape: {grey.shape} and {white.shape}')
    low, high = np.minimum(grey, white).min(), np.maximum(grey, white).max()
    if not (low >= 0 and high <= 1):  # NaN compares false
        raise ValueError(f'probabilities must lie in [0, 1], given {low} to {high}')
    kind = np.where(white > grey, 2, 1)
    return np.where(grey + white >= TISSUE_THRESHOLD, kind, 0).astype(np.uint8)


def fit_size(plane: UInt8Array, size: tuple[int, int] = IMAGE_SIZE) -> UInt8Array:
    """Crop or zero-pad ``plane`` (H, W) to ``size``, the odd pixel at the end.

    197x233 becomes 196x238: the last row, which is empty, goes, and columns of zeros come: 2
    before and 3 after.
    """
    import numpy as np

    for axis, target in enumerate(size):
        extra = target - plane.shape[axis]
        if extra >= 0:
            pad = [(0, 0), (0, 0)]
            pad[axis] = (extra // 2, extra - extra // 2)
            plane = np.pad(plane, pad)
        else:
            start = -extra // 2
            plane = plane.take(range(start, start + target), axis=axis)
    return plane


def split_slices(
    indices: Sequence[int], train: int = TRAIN_BLOCK, val: int = VAL_BLOCK, gap: int = GAP
) -> dict[str, list[int]]:
    """Split ascending slice indices into alternating blocks: train, gap, val, gap, train, ...

    Both splits so cover the brain from bottom to top. Block sizes are distances along the axis,
    so that a missing index widens a gap and never narrows it. Every train slice is more than
    ``gap`` mm away from every val slice.
    """
    if train < 1 or val < 1 or gap < 0:
        raise ValueError(f'need train >= 1, val >= 1, gap >= 0, given {train}, {val}, {gap}')
    if any(b <= a for a, b in pairwise(indices)):
        raise ValueError('slice indices must ascend without repeats')
    splits: dict[str, list[int]] = {'train': [], 'val': []}
    for index in indices:
        place = (index - indices[0]) % (train + val + 2 * gap)
        if place < train:
            splits['train'].append(index)
        elif train + gap <= place < train + gap + val:
            splits['val'].append(index)
    return splits


def load_volumes() -> tuple[UInt8Array, FloatArray, FloatArray]:
    """Return the T1 template (0 to 255), grey and white maps (0 to 1), each (x, y, z) in RAS."""
    import numpy as np

    # Only the package's place is needed: importing it would bring in scikit-learn and pandas.
    spec = importlib.util.find_spec('nilearn')
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError('the brain template needs: pip install nilearn')
    try:
        import nibabel
    except ImportError as error:
        raise RuntimeError('reading the brain template needs: pip install nibabel') from error
    root = Path(spec.submodule_search_locations[0])
    volumes: list[UInt8Array] = []
    affines: list[Any] = []
    for kind in ('t1', 'gm', 'wm'):
        path = root / TEMPLATE.format(kind)
        if not path.is_file():
            raise RuntimeError(
                f'{path} is missing: this nilearn is too old, pip install -U nilearn'
            )
        image: Any = nibabel.load(path)
        volume = np.asarray(image.dataobj)
        if volume.shape != VOLUME_SHAPE or volume.dtype != np.uint8:
            raise ValueError(
                f'{path}: holds {volume.dtype}{volume.shape}, expected uint8{VOLUME_SHAPE}'
            )
        volumes.append(volume)
        affines.append(image.affine)
    if not all(np.array_equal(affine, affines[0]) for affine in affines):
        raise ValueError(f'{root}: template and tissue maps do not lie on the same grid')
    t1, grey, white = volumes
    return t1, grey / np.float32(255), white / np.float32(255)


def read_meta(out_dir: Path) -> dict[str, Any] | None:
    """Return the content of ``out_dir/dataset.json``, or None where this tool wrote none."""
    try:
        meta = json.loads((out_dir / 'dataset.json').read_text())
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get('source') == SOURCE else None


def is_complete(out_dir: Path) -> bool:
    """Return whether ``out_dir`` holds this dataset with all its files."""
    meta = read_meta(out_dir)
    return (
        meta is not None
        and meta.get('format') == FORMAT
        and all(
            len(list((out_dir / kind / split).glob('*.png'))) == meta['slices'][split]
            for kind in ('img_dir', 'ann_dir')
            for split in SPLITS
        )
    )


def write_dataset(root: Path) -> None:
    """Write images, labels and ``dataset.json`` below ``root``."""
    import numpy as np
    from PIL import Image

    t1, grey, white = load_volumes()
    labels = encode_labels(grey, white)
    tissue = (labels > 0).sum(axis=(0, 1))
    usable = [int(z) for z in np.flatnonzero(tissue >= MIN_TISSUE_PIXELS)]
    splits = split_slices(usable)
    shares: dict[str, dict[str, float]] = {}
    for split, members in splits.items():
        counts = np.zeros(len(CLASSES), dtype=np.int64)
        for kind in ('img_dir', 'ann_dir'):
            (root / kind / split).mkdir(parents=True)
        for z in members:
            name = f'z{z:03d}.png'
            label = fit_size(labels[:, :, z])
            counts += np.bincount(label.ravel(), minlength=len(CLASSES))
            Image.fromarray(label).save(root / 'ann_dir' / split / name)
            image = Image.fromarray(fit_size(t1[:, :, z])).convert('RGB')
            image.save(root / 'img_dir' / split / name)
        shares[split] = {
            name: round(float(share), 4)
            for name, share in zip(CLASSES, counts / counts.sum(), strict=True)
        }
    used = sum(len(members) for members in splits.values())
    meta: dict[str, Any] = {
        'format': FORMAT,
        'source': SOURCE,
        'classes': list(CLASSES),
        'slices': {split: len(members) for split, members in splits.items()},
        'slices_left_out_between_splits': len(usable) - used,
        'pixel_shares': shares,
    }
    (root / 'dataset.json').write_text(json.dumps(meta, indent=2) + '\n')


def summary(out_dir: Path) -> str:
    """Return the counts in ``out_dir/dataset.json`` as lines of text."""
    meta = json.loads((out_dir / 'dataset.json').read_text())
    lines = [f'{meta["slices_left_out_between_splits"]} slices left out between the splits']
    for split in SPLITS:
        shares = ', '.join(f'{name} {x:.1%}' for name, x in meta['pixel_shares'][split].items())
        lines.append(f'{split}: {meta["slices"][split]} slices; pixels: {shares}')
    return '\n'.join(lines)


def prepare(out_dir: Path) -> Path:
    """Write the dataset to ``out_dir`` unless it is complete there, and return ``out_dir``.

    Raises ``RuntimeError`` where nilearn's files are missing and ``FileExistsError`` where
    ``out_dir`` holds something else.
    """
    if is_complete(out_dir):
        print(f'{out_dir} is there already\n{summary(out_dir)}')
        return out_dir
    # Only what this tool wrote may be replaced.
    if out_dir.exists() and any(out_dir.iterdir()) and read_meta(out_dir) is None:
        raise FileExistsError(f'{out_dir} holds other files: name a new or empty directory')
    print('slicing the MNI152 template (a few seconds)', flush=True)
    with whole(out_dir) as new:
        write_dataset(new)
        shutil.rmtree(out_dir, ignore_errors=True)  # empty, incomplete or of an earlier format
    print(f'wrote {out_dir}\n{summary(out_dir)}')
    return out_dir


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument(
        '--out',
        type=Path,
        default=cache_dir() / 'brain_mni152',
        help='output directory (default: %(default)s)',
    )
    args = parser.parse_args()
    try:
        prepare(args.out)
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
