"""NYU Depth V2 for depth estimation: ``data/nyu``.

The archive is the one that mmseg and depth estimation in general use: 640 x 480 images with depth
in millimetres, prepared for BTS from the published recordings, with its lists ``nyu_train.txt`` and
``nyu_test.txt`` (654 images, the test set of Eigen et al.).

Usage: ``python tools/dataset_converters/nyu.py nyu.zip``
"""

from pathlib import Path

from conversion.archive import members, readable
from conversion.command import Rename, run
from conversion.dataset import Dataset, Split
from mmsigma.errors import DataError

LISTS = {'nyu_train.txt': 'train', 'nyu_test.txt': 'test'}
DATASET = Dataset(
    title='NYU Depth V2',
    folder='nyu',
    site='the link in the data preparation guide of mmsegmentation (BTS prepared it)',
    archives={'nyu.zip': None},
    members=(),
    splits=(
        Split('train', 'images/train', 'annotations/train', None, 'nyu.zip'),
        Split('test', 'images/test', 'annotations/test', 654, 'nyu.zip'),
    ),
)


def targets(text: str, split: str) -> dict[str, str]:
    """Where the files of a list go, below the data set's folder."""
    found = {}
    for line in text.splitlines():
        if line.strip():
            image, depth = (path.strip('/') for path in line.split()[:2])
            found[image] = f'images/{split}/{image.replace("/rgb", "")}'
            found[depth] = f'annotations/{split}/{depth.replace("/sync_depth", "")}'
    return found


def rename(archive: Path) -> Rename:
    """Where the members of an archive go, by the lists in it."""
    listed: dict[str, str] = {}
    with readable(archive):
        for member in members(archive):
            name = member.name.rpartition('/')[2]
            if name in LISTS:
                with member.read() as file:
                    listed |= {name: name, **targets(file.read().decode(), LISTS[name])}
    if not LISTS.keys() <= listed.keys():
        raise DataError(
            f'{archive} has no {" and no ".join(LISTS.keys() - listed.keys())}, which say what is '
            f'trained on. {DATASET.where()}'
        )

    def place(member: str) -> str | None:
        parts = member.split('/')
        ends = ('/'.join(parts[i:]) for i in range(len(parts)))
        return next((listed[end] for end in ends if end in listed), None)

    return place


def check_lists(root: Path, workers: int) -> None:
    """Check that every file of the lists is there."""
    for name, split in LISTS.items():
        if (root / name).exists():
            paths = targets((root / name).read_text(), split).values()
            missing = [path for path in paths if not (root / path).exists()]
            if missing:
                raise DataError(
                    f'{root} lacks {len(missing):,} of {len(paths):,} files that {name} lists: '
                    f'{", ".join(missing[:3])}. {DATASET.where()}'
                )


if __name__ == '__main__':
    run(DATASET, check_lists, rename)
