"""Checks of label files, against the classes and the model that they train."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmcv.transforms import LoadAnnotations
from mmengine.fileio import exists
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from mmsigma.datasets.agreement import ignored_label, wrong_heads
from mmsigma.datasets.coco_rules import some
from mmsigma.datasets.left_out import labels_without_image, left_out_images
from mmsigma.datasets.sample_check import Sample, evenly, examine_map, label_loader
from mmsigma.datasets.settings import registered
from mmsigma.errors import DataError

# Whose steps of a pipeline give no label another meaning.
_KNOWN = ('mmcv', 'mmdet', 'mmengine', 'mmseg', 'mmsigma')


def warn(text: str) -> None:
    """Put a warning into the log."""
    print_log(text, logger='current', level=logging.WARNING)


def built_datasets(dataset: Any) -> Iterator[Any]:
    """Every dataset inside a built one, wrappers (Repeat, Concat) looked through."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if not all(hasattr(one, 'metainfo') for one in inner):
        yield dataset
        return
    for one in inner:
        yield from built_datasets(one)


def own_steps(steps: Iterable[Any], scope: str | None = None) -> list[str]:
    """Names of steps of a pipeline that are of no library, and may change labels.

    Args:
        steps: Of the pipeline, built or as configs.
        scope: The config's default scope.
    """
    kinds = [
        registered(TRANSFORMS, step, scope) if isinstance(step, Mapping) else type(step)
        for step in steps
    ]
    return [
        kind.__name__
        for kind in kinds
        if isinstance(kind, type)
        and kind.__module__.partition('.')[0] not in _KNOWN
        and not issubclass(kind, LoadAnnotations)  # with which labels are read here
    ]


@dataclass
class TrainedLabels:
    """What the label files of a training set hold, to tell which classes never occur.

    Attributes:
        classes: Names of the classes.
        pixels: How often each label occurs in what was read.
        read: So many label files.
        files: Of so many that there are.
        ignored: Labels of pixels to ignore.
        own_steps: What :func:`own_steps` found in its pipeline.
    """

    classes: Sequence[str]
    pixels: Counter[int] = field(default_factory=Counter)
    read: int = 0
    files: int = 0
    ignored: set[int | None] = field(default_factory=set)
    own_steps: list[str] = field(default_factory=list)

    def merge(self, other: 'TrainedLabels') -> None:
        """Add those of another dataset of the same classes."""
        self.pixels.update(other.pixels)
        self.read += other.read
        self.files += other.files
        self.ignored |= other.ignored
        self.own_steps += other.own_steps

    def absent(self, allowed: Sequence[str] = ()) -> tuple[str, bool] | None:
        """What to say of classes without any pixel, and whether it is an error.

        It is none where a sample was read, or steps of one's own may change the labels.

        Args:
            allowed: Classes that may be absent.

        Returns:
            None where there is nothing to say.
        """
        missing = [
            name
            for label, name in enumerate(self.classes)
            if not self.pixels[label] and name not in allowed
        ]
        if not missing or not self.read:
            return None
        void = sum(count for label, count in self.pixels.items() if label in self.ignored)
        labels = sorted(label for label, count in self.pixels.items() if count)
        text = (
            f'train_dataloader: no pixel of {len(missing)} of {len(self.classes)} classes '
            f'({some(missing, 8)}) in {self.read:,} of {self.files:,} label files. Their labels '
            f'are {some(map(str, labels), 12)}'
        )
        if void:
            share = void / self.pixels.total()
            text += f'; {share:.1%} of the pixels are ignored, which is what {self._void()} means'
        text += (
            f'. A file has to hold 0 to {len(self.classes) - 1} for the classes, in their order: '
            'convert masks of 0 and 255 to 0 and 1. A class that is meant to be absent is allowed '
            f"by name: dict(type='mmsigma.LabelCheckHook', absent={missing[:8]!r}) in custom_hooks."
        )
        if self.own_steps:
            text += f' (The pipeline has {some(self.own_steps)}, which may change this.)'
        return text, self.read == self.files and not self.own_steps

    def _void(self) -> str:
        return ' or '.join(str(label) for label in sorted(x for x in self.ignored if x is not None))


def check_allowed(allowed: Sequence[str], classes: Sequence[str]) -> None:
    """Check the names of classes that may be absent.

    Raises:
        DataError: One that is no class.
    """
    unknown = [name for name in allowed if name not in classes]
    if unknown:
        raise DataError(
            f'absent={list(allowed)!r} of LabelCheckHook has {some(unknown)}, which is no class of '
            f'the dataset. It has {some(classes, 30)}.'
        )


def check_labels(
    dataset: Any,
    model: Mapping[str, Any],
    samples: int,
    absent: Sequence[str] | None = None,
    warn: Callable[[str], None] = warn,
) -> int:
    """Check heads, and label files of a segmentation dataset, against the classes of a dataset.

    Args:
        dataset: A built dataset of mmseg or mmdet, possibly a wrapper around others; depth maps
            have no classes and are let pass.
        model: The config of the model that reads it.
        samples: How many label files of each dataset to read, evenly spaced.
        absent: For what is trained on: classes that may have no pixel. None does not ask.
        warn: Is told of what is no error: files that are left out, and classes without a pixel in
            what was read, where that is not all.

    Returns:
        How many label files were read.

    Raises:
        DataError: A head of another size, a label file that is missing, unreadable or holds other
            values, a class that no file has.
    """
    found: dict[tuple[str, ...], TrainedLabels] = {}
    for inner in built_datasets(dataset):
        classes = tuple((getattr(inner, 'metainfo', None) or {}).get('classes') or ())
        if classes and len(inner):
            labels = found.setdefault(classes, TrainedLabels(classes))
            _check_one(inner, classes, model, samples, labels, warn)
    for labels in found.values() if absent is not None else ():
        if labels.read:
            check_allowed(absent or (), [name for classes in found for name in classes])
        said = labels.absent(absent or ())
        if said and said[1]:
            raise DataError(said[0])
        if said:
            warn(said[0])
    return sum(labels.read for labels in found.values())


def _check_one(
    dataset: Any,
    classes: Sequence[str],
    model: Mapping[str, Any],
    samples: int,
    labels: TrainedLabels,
    warn: Callable[[str], None],
) -> None:
    first = dataset.get_data_info(0)
    if 'depth_map_path' in first:
        return
    for text in wrong_heads(classes, model):
        raise DataError(text)
    if 'instances' in first:  # mmdet's have no label images
        return
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    loader = label_loader(steps)
    if 'seg_map_path' not in first:
        if loader:
            raise DataError(
                f'{first["img_path"]} has no label file, and {type(loader).__name__} of the '
                'pipeline needs one. Set data_prefix.seg_map_path of the dataset.'
            )
        return
    for left in (left_out_images(dataset), labels_without_image(dataset)):
        if left:
            warn(left)
    ignore = ignored_label(model, getattr(dataset, 'ignore_index', 255))
    indices = evenly(len(dataset), samples)
    pixels: Counter[int] = Counter()
    for index in indices:
        info = dataset.get_data_info(index)
        path = info['seg_map_path']
        if not exists(path):
            raise DataError(
                f'{info["img_path"]} has no label file: {path} does not exist. Add it, remove the '
                'image, or set seg_map_suffix.'
            )
        sample = Sample()
        examine_map(path, info, 'seg_map_path', len(classes), ignore, sample, loader)
        for kind, case in sample.problems:
            raise DataError(f'{kind}: {case}.')
        pixels.update(sample.pixels)
    count = len(indices)
    found = TrainedLabels(classes, pixels, count, len(dataset), {ignore}, own_steps(steps))
    labels.merge(found)
