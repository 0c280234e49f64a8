"""Checks of datasets before a long run starts."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.registry import DATASETS

from mmsigma.datasets.coco_check import check_annotations
from mmsigma.errors import DataError

REMOTE = '://'


def dataset_configs(config: Any) -> Iterator[Mapping]:
    """Every dataset config inside ``config``, wrappers (Repeat, Concat) looked through."""
    if isinstance(config, Mapping):
        if 'data_prefix' in config or 'data_root' in config:
            yield config
        else:
            for value in config.values():
                yield from dataset_configs(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from dataset_configs(value)


def check_paths(config: Mapping, name: str, scope: str | None = None) -> None:
    """Check that the folders and files of a dataset config exist, and annotations in COCO's format.

    Args:
        config: A dataset config, possibly a wrapper around others.
        name: What it is, for the message, e.g. ``train_dataloader``.
        scope: The config's default scope, to look up dataset classes.

    Raises:
        DataError: A path that does not exist, an image folder without images, or annotations that
            :func:`mmsigma.datasets.coco_check.check_annotations` refuses.
    """
    for dataset in dataset_configs(config):
        root = str(dataset.get('data_root') or '')
        if REMOTE in root:
            continue
        prefix = dataset.get('data_prefix') or {}
        parts = [('data_root', root)] if root else []
        parts += [(key, _join(root, part)) for key, part in prefix.items() if part]
        if dataset.get('ann_file'):
            parts.append(('ann_file', _join(root, dataset['ann_file'])))
        for key, path in parts:
            if REMOTE not in path and not Path(path).exists():
                raise DataError(_missing(name, key, Path(path)))
        cls = _dataset_class(dataset, scope)
        if hasattr(cls, 'COCOAPI') and REMOTE not in dataset.get('ann_file', REMOTE):
            metainfo = {**cls.METAINFO, **(dataset.get('metainfo') or {})}
            tests = bool(dataset.get('test_mode'))
            kept = tests or dataset.get('filter_cfg') is None
            check_annotations(
                Path(_join(root, dataset['ann_file'])),
                name,
                metainfo.get('classes', ()),
                _folder(root, prefix.get('img')),
                _folder(root, prefix.get('seg')),
                None if kept else dataset['filter_cfg'],
                panoptic=cls.COCOAPI.__name__ == 'COCOPanoptic',
                masks=any(step.get('with_mask') for step in dataset.get('pipeline', ())),
                evaluated=tests and cls.__name__ == 'CocoDataset',
            )
        images = Path(_join(root, prefix.get('img_path') or ''))
        suffix = dataset.get('img_suffix') or _default_suffix(cls)
        if suffix and images.is_dir() and not any(images.rglob(f'*{suffix}')):
            found = sorted({p.suffix for p in images.rglob('*') if p.is_file()})[:5]
            raise DataError(
                f'{name}: {images} holds no *{suffix} images (found: {", ".join(found) or "none"}).'
                ' Set img_suffix to what is there, or data_root to where the images are.'
            )


def _dataset_class(dataset: Mapping, scope: str | None) -> Any:
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(dataset.get('type') or '')


def _default_suffix(cls: Any) -> str | None:
    parameter = inspect.signature(cls).parameters.get('img_suffix') if cls else None
    return parameter.default if parameter and isinstance(parameter.default, str) else None


def _folder(root: str, part: str | None) -> Path | None:
    return None if not part or REMOTE in part else Path(_join(root, part))


def _join(root: str, part: str) -> str:
    return part if REMOTE in part else str(Path(root) / part)


def _missing(name: str, key: str, path: Path) -> str:
    parent = next(p for p in (path, *path.parents) if p.exists())
    there = sorted(p.name for p in parent.iterdir())[:8] if parent.is_dir() else []
    return (
        f'{name}: {key} {str(path)!r} does not exist. {parent} does, and holds '
        f'{", ".join(there) or "nothing"}. Point data_root there (--cfg-options '
        f'{name}.dataset.data_root=...), or set MMSIGMA_DATA for the configs of this project.'
    )


def check_labels(dataset: Any, num_classes: int | None, samples: int) -> int:
    """Check label files of a segmentation dataset against its classes.

    Args:
        dataset: A built mmseg dataset; others, which name no label files, are let pass.
        num_classes: Classes that the head predicts, or None where that is not known.
        samples: How many label files to read, evenly spaced.

    Returns:
        How many label files were read.

    Raises:
        DataError: A head of another size, a label file that is missing, unreadable or holds other
            values.
    """
    inner = dataset
    while not hasattr(inner, 'get_data_info') and hasattr(inner, 'dataset'):
        inner = inner.dataset
    classes = (getattr(inner, 'metainfo', None) or {}).get('classes')
    if not classes or not len(inner):
        return 0
    first = inner.get_data_info(0)
    if 'seg_map_path' not in first or 'instances' in first:  # mmdet's have no label images
        return 0
    if num_classes is not None and num_classes != len(classes):
        raise DataError(
            f'The head predicts {num_classes} classes, the dataset has {len(classes)} '
            f'({", ".join(classes[:4])}, ...). Set num_classes of the head to {len(classes)}.'
        )
    ignore = getattr(inner, 'ignore_index', 255)
    indices = np.unique(np.linspace(0, len(inner) - 1, min(samples, len(inner))).astype(int))
    for index in indices:
        info = inner.get_data_info(int(index))
        path = info['seg_map_path']
        try:
            label = mmcv.imread(path, flag='unchanged', backend='pillow')
        except FileNotFoundError as error:
            raise DataError(
                f'{info["img_path"]} has no label file: {path} does not exist. Add it, remove the '
                'image, or set seg_map_suffix.'
            ) from error
        except OSError as error:
            raise DataError(f'{path} cannot be read as a label image: {error}.') from error
        values = trained_values(np.unique(label).astype(int), info)
        wrong = [int(v) for v in values if v != ignore and not 0 <= v < len(classes)]
        if wrong:
            raise DataError(
                f'{path} has labels {wrong[:8]}, but the dataset has {len(classes)} classes '
                f'(0 to {len(classes) - 1}, and {ignore} for pixels to ignore). Convert the '
                'labels, or set classes, label_map or reduce_zero_label.'
            )
    return len(indices)


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
