"""Files in the folders of a segmentation dataset that it does not take."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmsigma.datasets.check import REMOTE
from mmsigma.datasets.coco_rules import some

_IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


def left_out_images(dataset: Any) -> str | None:
    """What to say of images that ``img_suffix`` leaves out; None where there are none.

    Args:
        dataset: A built dataset that lists the files of a folder, as mmseg's do.
    """
    suffix: Any = getattr(dataset, 'img_suffix', None)
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folder = _listed(dataset, 'img_path') if suffix else None
    if folder is None:
        return None
    labels = prefix.get('seg_map_path') or prefix.get('depth_map_path')
    ending = getattr(dataset, 'seg_map_suffix', None)
    inside = labels and (Path(folder) in (Path(labels), *Path(labels).parents))
    names = [
        name
        for name in _names(folder)
        if name.lower().endswith(_IMAGES)
        and not (inside and ending and name.endswith(ending))  # labels that lie there too
    ]
    others = [name for name in names if not name.endswith(suffix)]
    if not others:
        return None
    return (
        f'{len(others):,} of {len(names):,} images in {folder} are left out, because they do not '
        f'end in img_suffix={suffix!r}: {some(sorted(others), 3)}. Rename or convert them, or list '
        'several datasets in a ConcatDataset, each with its suffix.'
    )


def labels_without_image(dataset: Any) -> str | None:
    """What to say of label files that no image of the dataset has; None where there are none.

    Args:
        dataset: A built dataset that lists the files of a folder, as mmseg's do.
    """
    suffix: Any = getattr(dataset, 'seg_map_suffix', None)
    images = _listed(dataset, 'img_path') if suffix and len(dataset) else None
    if images is None or 'instances' in dataset.get_data_info(0):
        return None
    key = 'depth_map_path' if 'depth_map_path' in dataset.get_data_info(0) else 'seg_map_path'
    labels = _listed(dataset, key)
    if labels is None:
        return None
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    listed = {os.path.normpath(info[key]) for info in infos if info.get(key)}
    there = (os.path.join(labels, name) for name in _names(labels) if name.endswith(suffix))
    alone = sorted(path for path in there if os.path.normpath(path) not in listed)
    return f'{len(alone):,} label files have no image: {some(alone, 3)}' if alone else None


def _listed(dataset: Any, key: str) -> str | None:
    """The folder of which a dataset takes all files, if it does that and the folder is local."""
    folder = (getattr(dataset, 'data_prefix', None) or {}).get(key)
    if getattr(dataset, 'ann_file', None) or not folder or REMOTE in folder:
        return None
    return folder if os.path.isdir(folder) else None


def _names(folder: str) -> Iterator[str]:
    """Paths below a folder, relative to it, without hidden files."""
    for place, _, files in os.walk(folder, followlinks=True):  # as MMEngine lists it
        for file in files:
            if not file.startswith('.'):
                yield os.path.relpath(os.path.join(place, file), folder)
