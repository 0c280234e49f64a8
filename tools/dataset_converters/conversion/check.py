"""Whether all of a data set is there: counts, and images with their labels."""

import os
from collections.abc import Iterator
from pathlib import Path

from conversion.dataset import Dataset, Split
from mmsigma.errors import DataError


def check(dataset: Dataset, root: Path, partial: bool = False) -> list[str]:
    """Compare what is there with what is published.

    Args:
        dataset: The data set.
        root: Its folder.
        partial: Whether fewer images than published are good enough.

    Returns:
        A line for each split.

    Raises:
        DataError: Everything that is missing or too much, at once.
    """
    lines, problems, total = [], [], 0
    for split in dataset.splits:
        try:
            names, images, labels = _names(split, root)
        except FileNotFoundError as error:
            problems.append(
                f'{split.title}: there is no {error.filename}; it is in {split.archives}'
            )
            continue
        total += len(images)
        if split.optional and not images:
            lines.append(f'{split.title}: none (not needed; {split.archives})')
            continue
        aside = sum(1 for _ in _stems(root / split.aside, split.image_suffix)) if split.aside else 0
        number = len(images) + aside
        if split.number is not None and number != split.number and not partial:
            problems.append(
                f'{split.title}: {number:,} of {split.number:,} images in {root / split.images}; '
                f'they are in {split.archives}'
            )
        if names is not None and names - images:
            problems.append(
                f'{split.title}: {_lack(names - images, root / split.images, split.image_suffix)} '
                f'that {split.names} lists'
            )
        if labels is not None:
            problems += _pairs(split, root, images, labels)
        put_aside = f', {aside} put aside in {split.aside}' if aside else ''
        lines.append(f'{split.title}: {len(images):,} images{put_aside}')
    if not total:
        problems.append(f'there is no image at all in {root}')
    if problems:
        raise DataError(
            f'{dataset.title} in {root} is not complete:\n  '
            + '\n  '.join(problems)
            + f'\n{dataset.where()} What is there already is not unpacked again.'
            + ('' if partial else ' Where less is meant, use --partial.')
        )
    return lines


def _pairs(split: Split, root: Path, images: set[str], labels: set[str]) -> Iterator[str]:
    for what, names, folder, suffix in (
        ('images have no label', images - labels, split.labels, split.label_suffix),
        ('labels have no image', labels - images, split.images, split.image_suffix),
    ):
        if names:
            lack = _lack(names, f'{root}/{folder}', suffix)
            yield f'{split.title}: {len(names):,} {what}: {lack}'


def _lack(names: set[str], folder: object, suffix: str) -> str:
    some = ', '.join(f'{name}{suffix}' for name in sorted(names)[:3])
    return f'{folder} lacks {some}{f" and {len(names) - 3:,} more" if len(names) > 3 else ""}'


def _names(split: Split, root: Path) -> tuple[set[str] | None, set[str], set[str] | None]:
    """Names in the list of a split, of its images and of its labels."""
    images = set(_stems(root / split.images, split.image_suffix))
    labels = None if split.labels is None else set(_stems(root / split.labels, split.label_suffix))
    if split.names is None:
        return None, images, labels
    names = {line.split()[0] for line in (root / split.names).read_text().splitlines() if line}
    # Other splits lie in the same folders.
    return names, images & names, None if labels is None else labels & names


def _stems(folder: Path, suffix: str) -> Iterator[str]:
    """Paths below a folder, without the suffix."""
    for place, _, files in os.walk(folder):
        for name in files:
            if name.endswith(suffix) and not name.startswith('.'):
                yield os.path.relpath(os.path.join(place, name), folder)[: -len(suffix)]
