"""Checks of the paths of datasets before a long run starts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from mmsigma.datasets.coco_check import check_annotations
from mmsigma.datasets.settings import registered, setting
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
        cls = registered(DATASETS, dataset, scope)
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
        suffix = setting(dataset, cls, 'img_suffix')
        if suffix and images.is_dir() and not any(images.rglob(f'*{suffix}')):
            found = sorted({p.suffix for p in images.rglob('*') if p.is_file()})[:5]
            raise DataError(
                f'{name}: {images} holds no *{suffix} images (found: {", ".join(found) or "none"}).'
                ' Set img_suffix to what is there, or data_root to where the images are.'
            )


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
