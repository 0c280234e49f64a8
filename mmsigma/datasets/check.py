"""Checks of datasets before a long run starts."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.fileio import exists
from mmengine.registry import DATASETS

from mmsigma.datasets.coco_check import check_annotations, some
from mmsigma.datasets.sample_check import Sample, evenly, examine_map
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


def head_sizes(model: Mapping[str, Any], path: str = '') -> Iterator[tuple[str, int]]:
    """Names of the heads that a model config names, and how many classes each predicts."""
    for key, value in model.items():
        # Region proposals know no classes; a backbone's are those of its pretraining.
        if key in ('backbone', 'data_preprocessor') or 'rpn' in key:
            continue
        for i, node in enumerate(value if isinstance(value, list | tuple) else [value]):
            if not isinstance(node, Mapping):
                continue
            name = f'{path}{key}' + (f'.{i}' if isinstance(value, list | tuple) else '')
            things = node.get('num_things_classes')
            count = node.get('num_classes')
            if isinstance(things, int):
                yield name, things + (node.get('num_stuff_classes') or 0)
            elif isinstance(count, int):
                yield name, count
            yield from head_sizes(node, f'{name}.')


def wrong_heads(classes: Sequence[str], model: Mapping[str, Any]) -> Iterator[str]:
    """What to say of each head of a model config that predicts another number of classes."""
    for name, count in head_sizes(model):
        if count != len(classes):
            yield (
                f'{name} predicts {count} classes, the dataset has {len(classes)} '
                f'({some(classes)}). Set num_classes of the head to {len(classes)}, or '
                'metainfo=dict(classes=...) of the dataset.'
            )


def check_labels(dataset: Any, model: Mapping[str, Any], samples: int) -> int:
    """Check heads, and label files of a segmentation dataset, against the classes of a dataset.

    Args:
        dataset: A built dataset of mmseg or mmdet; depth maps have no classes and are let pass.
        model: The config of the model that reads it.
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
    if 'depth_map_path' in first:
        return 0
    for text in wrong_heads(classes, model):
        raise DataError(text)
    if 'seg_map_path' not in first or 'instances' in first:  # mmdet's have no label images
        return 0
    indices = evenly(len(inner), samples)
    for index in indices:
        info = inner.get_data_info(index)
        path = info['seg_map_path']
        if not exists(path):
            raise DataError(
                f'{info["img_path"]} has no label file: {path} does not exist. Add it, remove the '
                'image, or set seg_map_suffix.'
            )
        found = Sample()
        ignore = getattr(inner, 'ignore_index', 255)
        examine_map(path, info, 'seg_map_path', len(classes), ignore, found)
        for kind, case in found.problems:
            raise DataError(f'{kind}: {case}.')
    return len(indices)
