"""What a config will train and be evaluated on: counts, missing files, labels, sizes, classes."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.registry import DATASETS
from tqdm.contrib.concurrent import thread_map

from mmsigma.datasets.agreement import disagreements, ignored_label, wrong_heads
from mmsigma.datasets.check import REMOTE, check_paths, dataset_configs
from mmsigma.datasets.coco_rules import some
from mmsigma.datasets.label_check import TrainedLabels, check_allowed, own_steps
from mmsigma.datasets.left_out import labels_without_image, left_out_images
from mmsigma.datasets.sample_check import Sample, evenly, examine, label_loader
from mmsigma.errors import DataError

LOADERS = {
    'train': 'train_dataloader',
    'val': 'val_dataloader',
    'test': 'test_dataloader',
}


@dataclass
class Part:
    """One dataset of a split, e.g. one of several that are concatenated.

    Attributes:
        name: The split, with a number where there are several.
        config: Its config.
        dataset: The built dataset, without a pipeline; None where it cannot be built.
        lines: What was found, in words.
        problems: What is wrong, in words.
        warnings: What may be wrong, in words.
        classes: Names of the classes; empty for what has none, as depth.
        counts: Pixels or instances of each class, in what was read.
        labels: What the label files of a training set hold; None for what has none.
        images: Paths of all images.
    """

    name: str
    config: Mapping[str, Any]
    dataset: Any = None
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    counts: Counter[int] = field(default_factory=Counter)
    unit: str = ''
    labels: TrainedLabels | None = None
    images: set[str] = field(default_factory=set)

    def wrong(self, text: str) -> None:
        """Note a problem."""
        self.problems.append(f'{self.name}: {text}')


def inspect(config: Any, samples: int | None = 1000, workers: int = 4) -> list[Part]:
    """Look at everything that the dataloaders of a config will read.

    Args:
        config: The config.
        samples: How many images and label files of each dataset are read, evenly spaced; None for
            all. Whether files are there is looked up for all.
        workers: Threads.

    Returns:
        One part for each dataset; a split that reads what another does is left out.
    """
    parts: list[Part] = []
    for split, loader in LOADERS.items():
        found = list(dataset_configs((config.get(loader) or {}).get('dataset') or {}))
        for number, dataset in enumerate(found, 1):
            if any(_same(dataset, part.config) for part in parts):
                continue
            part = Part(f'{split} {number}' if len(found) > 1 else split, dataset)
            parts.append(part)
            _inspect(part, config, samples, workers)
        if parts:
            first = next((part for part in parts if part.name.split()[0] == split), parts[0])
            first.problems += disagreements(config, loader)
    _overlap(parts)
    _absent(parts, config)
    return parts


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    ignored = ('pipeline', 'test_mode')
    return {k: v for k, v in first.items() if k not in ignored} == {
        k: v for k, v in second.items() if k not in ignored
    }


def _inspect(part: Part, config: Any, samples: int | None, workers: int) -> None:
    scope, model = config.get('default_scope'), config.get('model') or {}
    try:
        check_paths(part.config, LOADERS[part.name.split()[0]], scope)
    except DataError as error:
        part.problems.append(str(error))
    dataset = _build(part, scope)
    if dataset is None:
        return
    part.dataset = dataset
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    part.images = {os.path.realpath(info['img_path']) for info in infos}
    if not infos:
        part.wrong('there is no image')
        return
    is_depth = 'depth_map_path' in infos[0]
    part.classes = () if is_depth else tuple(dataset.metainfo.get('classes') or ())
    for text in wrong_heads(part.classes, model, scope) if part.classes else ():
        part.wrong(text)
    _missing(part, infos)
    if alone := labels_without_image(dataset):
        part.wrong(alone)
    if left := left_out_images(dataset):
        part.warnings.append(f'{part.name}: {left}')
    ignore = ignored_label(model, getattr(dataset, 'ignore_index', 255), scope)
    steps = part.config.get('pipeline') or []
    loader = None if is_depth or 'instances' in infos[0] else label_loader(steps, scope)
    read = thread_map(
        lambda i: examine(infos[i], len(part.classes), ignore, loader),
        evenly(len(infos), samples),
        max_workers=max(workers, 1),
        desc=part.name,
        disable=None,
    )
    filtered = part.config.get('filter_cfg') and not part.config.get('test_mode')
    kept = 'images that filter_cfg keeps' if filtered else 'images'
    part.lines.append(f'{len(infos):,} {kept}, {len(read):,} of them read; {_sizes(read)}')
    kinds: dict[str, list[str]] = {}
    for sample in read:
        part.counts.update(sample.pixels)
        for kind, case in sample.problems:
            kinds.setdefault(kind, []).append(case)
    part.unit = 'pixels'
    for kind, cases in kinds.items():
        part.wrong(f'{len(cases):,} {kind}: {some(cases, 3)}')
    if 'instances' in infos[0]:
        _instances(part, infos)
    elif part.classes and any(info.get('seg_map_path') for info in infos):
        files = sum(1 for sample in read if sample.pixels)
        total = files + len(infos) - len(read)
        own, pixels = own_steps(steps, scope), Counter(part.counts)
        part.labels = TrainedLabels(part.classes, pixels, files, total, {ignore}, own)
    ignored = 0
    if part.unit == 'pixels' and ignore is not None:
        ignored = part.counts.pop(ignore, 0)
    if part.classes and part.counts:
        share = ignored / (ignored + part.counts.total())
        if part.unit == 'pixels':
            part.lines.append(f'{share:.1%} of the pixels are ignored')
        absent = [c for i, c in enumerate(part.classes) if not part.counts[i]]
        if absent:
            part.lines.append(f'no {part.unit} of {len(absent)} classes: {some(absent, 8)}')


def _build(part: Part, scope: str | None) -> Any:
    try:
        with DATASETS.switch_scope_and_registry(scope) as registry:
            return registry.build({**part.config, 'pipeline': []})
    except Exception as error:  # whatever a dataset class may raise
        if not part.problems:
            part.wrong(f'{part.config.get("type")} cannot be built: {error or repr(error)}')
        return None


def _missing(part: Part, infos: Sequence[Mapping[str, Any]]) -> None:
    for key, what in (
        ('img_path', 'images are missing'),
        ('seg_map_path', 'images have no label file'),
        ('depth_map_path', 'images have no depth map'),
    ):
        # What COCO's files list was checked with them.
        if 'img_id' in infos[0] and hasattr(part.dataset, 'COCOAPI'):
            return
        paths = [info[key] for info in infos if info.get(key)]
        missing = [p for p in paths if REMOTE not in p and not os.path.exists(p)]
        if missing:
            part.wrong(f'{len(missing):,} of {len(paths):,} {what}: {some(missing, 3)}')


def _instances(part: Part, infos: Sequence[Mapping[str, Any]]) -> None:
    part.counts, part.unit = Counter(), 'instances'
    crowds = empty = 0
    for info in infos:
        alone = [x for x in info['instances'] if not x.get('ignore_flag')]
        crowds += len(info['instances']) - len(alone)
        empty += not alone
        part.counts.update(int(x['bbox_label']) for x in alone)
        if 'segments_info' in info:
            stuff = (s for s in info['segments_info'] if not s['is_thing'])
            part.counts.update(int(s['category']) for s in stuff)
    part.lines.append(
        f'{part.counts.total():,} instances'
        + (' and segments of stuff' if 'segments_info' in infos[0] else '')
        + f', {crowds:,} crowds or difficult ones besides, {empty:,} images without instance'
    )


def _sizes(read: Sequence[Sample]) -> str:
    sizes = Counter(sample.size for sample in read if sample.size)
    if not sizes:
        return 'none of these could be read'
    if len(sizes) == 1:
        width, height = next(iter(sizes))
        return f'all {width}x{height}'
    widths, heights = ([size[i] for size in sizes] for i in (0, 1))
    (width, height), count = sizes.most_common(1)[0]
    return (
        f'{min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high, most often '
        f'{width}x{height} ({count / sizes.total():.0%})'
    )


def _overlap(parts: Sequence[Part]) -> None:
    train = {path for part in parts if part.name.startswith('train') for path in part.images}
    for part in parts:
        both = part.images & train
        if both and not part.name.startswith('train'):
            part.lines.append(f'{len(both):,} of these images are trained on too')


def _absent(parts: Sequence[Part], config: Any) -> None:
    """Classes that no label file of all training sets together has, as training looks for them."""
    hooks = [
        hook
        for hook in config.get('custom_hooks') or ()
        if str(hook.get('type')).rpartition('.')[2] == 'LabelCheckHook'
    ]
    allowed = [name for hook in hooks for name in hook.get('absent') or ()]
    together: dict[tuple[str, ...], TrainedLabels] = {}
    trained = []
    for part in parts:
        if part.labels and part.name.startswith('train'):
            trained.append(part)
            together.setdefault(part.classes, TrainedLabels(part.classes)).merge(part.labels)
    if not trained:
        return
    try:
        check_allowed(allowed, [name for classes in together for name in classes])
    except DataError as error:
        trained[0].problems.append(str(error))
    for labels in together.values():
        if said := labels.absent(allowed):
            part = next(part for part in trained if part.classes == labels.classes)
            (part.problems if said[1] else part.warnings).append(said[0])


def class_table(parts: Sequence[Part]) -> list[str]:
    """Shares of the classes in every part that has any, a line for each class."""
    parts = [part for part in parts if part.counts and part.classes]
    lines = []
    for classes in dict.fromkeys(part.classes for part in parts):
        same = [part for part in parts if part.classes == classes]
        width = max(map(len, (*classes, 'class')))
        titles = [f'{part.name} ({part.unit})' for part in same]
        lines.append('  '.join(['class'.ljust(width), *titles]))
        for index, name in enumerate(classes):
            shares = [
                f'{part.counts[index] / part.counts.total():.3%}'.rjust(len(title))
                for part, title in zip(same, titles, strict=True)
            ]
            lines.append('  '.join([name.ljust(width), *shares]))
    return lines
