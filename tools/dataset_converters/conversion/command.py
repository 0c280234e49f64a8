"""The command line that all data sets share."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from conversion.archive import check_sum, is_archive
from conversion.check import check
from conversion.dataset import Dataset
from conversion.unpack import unpack
from mmsigma.errors import DataError, MMSigmaError

Rename = Callable[[str], str | None]
GO_ON = 'The same command goes on from here.'


def run(
    dataset: Dataset,
    convert: Callable[[Path, int], None] | None = None,
    rename: Callable[[Path], Rename] | None = None,
) -> NoReturn:
    """Unpack, convert and check a data set, as a command line says, and exit.

    Args:
        dataset: What is known of it.
        convert: What is left to do when all is unpacked, with the data set's folder and a number
            of threads.
        rename: For an archive, where its members go; the data set's own patterns otherwise.
    """
    args = _parser(dataset).parse_args()
    root = args.data / dataset.folder
    try:
        _unpack(dataset, args.sources, root, rename, args.partial)
        if convert:
            convert(root, args.workers)
        lines = check(dataset, root, args.partial)
    except MMSigmaError as error:
        sys.exit(f'\nerror: {error}')
    except OSError as error:  # disk full, no permission
        sys.exit(f'\nerror: {error}. {GO_ON}')
    except KeyboardInterrupt:
        print(f'\nstopped. {GO_ON}', file=sys.stderr)
        sys.exit(130)
    print('\n'.join([f'{dataset.title} is complete in {root}', *lines]))
    sys.exit()


def _unpack(
    dataset: Dataset,
    sources: Sequence[Path],
    root: Path,
    rename: Callable[[Path], Rename] | None,
    partial: bool,
) -> None:
    archives = [archive for source in sources for archive in _archives(dataset, source)]
    if not archives and not root.is_dir():
        raise DataError(f'No archive is given, and there is no {root}. {dataset.where()}')
    for archive in archives:
        md5 = dataset.archives.get(archive.name)
        if md5 and not partial:
            check_sum(archive, md5)
    for archive in archives:
        naming = rename(archive) if rename else dataset.rename
        found, written = unpack(archive, root, naming, dataset.is_nested)
        if not found:
            raise DataError(
                f'{archive} has no member that belongs to {dataset.title}. {dataset.where()}'
            )
        print(f'{archive.name}: {found:,} files, {written:,} of them written now')


def _archives(dataset: Dataset, source: Path) -> list[Path]:
    if source.is_dir():
        # Other downloads may lie beside; names that are not published ones are given by path.
        inside = [path for path in sorted(source.iterdir()) if path.name in dataset.archives]
        if not inside:
            there = sorted(path.name for path in source.iterdir() if is_archive(path))[:8]
            raise DataError(
                f'{source} holds none of {", ".join(dataset.archives)}; its archives are '
                f'{", ".join(there) or "none"}. {dataset.where()} Archives under other names are '
                'given by path.'
            )
        return inside
    if not source.is_file():
        raise DataError(f'There is no {source}. {dataset.where()}')
    return [source]


def _parser(dataset: Dataset) -> argparse.ArgumentParser:
    names = ', '.join(dataset.archives)
    parser = argparse.ArgumentParser(
        description=f'{dataset.title}: from the official archives to {dataset.folder}. '
        f'{dataset.where()} An interrupted run goes on where it stopped.'
    )
    parser.add_argument(
        'sources',
        nargs='*',
        type=Path,
        metavar='ARCHIVE',
        help=f'{names}, or folders that hold them; none where they are unpacked already',
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=Path(os.environ.get('MMSIGMA_DATA') or 'data'),
        help='folder of all data (default: $MMSIGMA_DATA, or data)',
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help='a part of the data is enough: check neither sums nor counts',
    )
    parser.add_argument(
        '--workers', type=int, default=min(os.cpu_count() or 1, 8), help='threads for labels'
    )
    return parser
