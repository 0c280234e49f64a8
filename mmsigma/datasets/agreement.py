"""Whether dataset, loader, heads, losses and metric of a config mean the same by a label."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.registry import DATASETS, MODELS, TRANSFORMS

from mmsigma.datasets.check import dataset_configs
from mmsigma.datasets.coco_rules import some
from mmsigma.datasets.settings import parameters, registered, setting
from mmsigma.errors import DataError

_SIZES = ('num_things_classes', 'num_classes')
# Of mmseg's segmentors. Those of detectors ignore boxes, not labels of pixels.
_SEGMENTOR_HEADS = ('decode_head', 'auxiliary_head')
_LOADED_AS_VOID = 255  # what mmseg's LoadAnnotations writes, whatever the ignore index is


class Node(NamedTuple):
    """A part of a model config.

    Attributes:
        name: Keys that lead there, e.g. ``roi_head.bbox_head.0``.
        key: The last of them that is a name.
        config: What the config says.
        cls: Its class; None where the config names none that is registered.
    """

    name: str
    key: str
    config: Mapping[str, Any]
    cls: Any


def _nodes(model: Mapping[str, Any], scope: str | None, path: str = '') -> Iterator[Node]:
    for key, value in model.items():
        # Region proposals know no classes; a backbone's are those of its pretraining.
        if key in ('backbone', 'data_preprocessor') or 'rpn' in key:
            continue
        several = isinstance(value, list | tuple)
        for i, config in enumerate(value if several else [value]):
            if isinstance(config, Mapping):
                name = f'{path}{key}' + (f'.{i}' if several else '')
                yield Node(name, key, config, registered(MODELS, config, scope))
                yield from _nodes(config, scope, f'{name}.')


def head_sizes(model: Mapping[str, Any], scope: str | None = None) -> Iterator[tuple[str, int]]:
    """Names of a model's heads, and how many classes each predicts.

    A head whose config does not say it has its class's default, and its name says so.
    """
    for name, key, config, cls in _nodes(model, scope):
        size = next((k for k in _SIZES if isinstance(config.get(k), int)), None)
        if size is None and key.endswith('head'):
            size = next((k for own in parameters(cls) for k in _SIZES if k in own), None)
        count = setting(config, cls, size) if size else None
        if not isinstance(count, int) or count < 1:
            continue
        if size == 'num_things_classes':
            count += setting(config, cls, 'num_stuff_classes') or 0
        yield name if size in config else f'{name} ({cls.__name__}, by default)', count


def wrong_heads(
    classes: Sequence[str], model: Mapping[str, Any], scope: str | None = None
) -> Iterator[str]:
    """What to say of each head of a model config that predicts another number of classes."""
    for name, count in head_sizes(model, scope):
        if count != len(classes):
            yield (
                f'{name} predicts {count} classes, the dataset has {len(classes)} '
                f'({some(classes)}). Set num_classes of the head to {len(classes)}, or '
                'metainfo=dict(classes=...) of the dataset.'
            )


def ignored_labels(
    model: Mapping[str, Any], scope: str | None = None
) -> list[tuple[str, int | None]]:
    """The label that each head and loss of a segmentor ignores; None for a head that ignores none.

    A head of an unknown class that does not say it is left out.
    """
    found: list[tuple[str, int | None]] = []
    for name, key, config, cls in _nodes(model, scope):
        if not any(part in _SEGMENTOR_HEADS for part in name.split('.')):
            continue
        if key.endswith('head'):
            names: tuple[str, ...] = ('ignore_index',)
        elif key == 'loss_decode':
            names = ('ignore_index', 'ignore_label')
        else:
            continue
        for setting_name in names:
            declared = any(setting_name in own for own in parameters(cls))
            if setting_name in config or declared:
                found.append((f'model.{name}.{setting_name}', setting(config, cls, setting_name)))
    return found


def ignored_label(model: Mapping[str, Any], default: int, scope: str | None = None) -> int | None:
    """The label that training ignores: the first head's, or else ``default``; None for none."""
    return next((label for _, label in ignored_labels(model, scope)), default)


def disagreements(config: Any, name: str) -> Iterator[str]:
    """What to say of a config's parts that mean different things by the labels of one dataloader.

    Args:
        config: The whole config.
        name: The dataloader, e.g. ``train_dataloader``. Nothing is said where there is none.
    """
    loader = config.get(name)
    if not loader:
        return
    scope, model = config.get('default_scope'), config.get('model') or {}
    evaluator = None if name.startswith('train') else name.replace('dataloader', 'evaluator')
    metrics = list(_metrics(config.get(evaluator), evaluator)) if evaluator else []
    first = _classes(config.get('train_dataloader'), scope)
    yield from _one_channel(model, scope)
    for dataset in dataset_configs(loader.get('dataset') or {}):
        cls = registered(DATASETS, dataset, scope)
        yield from _no_labels(name, dataset, cls, metrics)
        yield from _zero_label(name, dataset, cls)
        yield from _other_order(name, first, _dataset_classes(dataset, cls))
        yield from _other_ignored(name, dataset, cls, config, metrics)


def check_agreement(config: Any, name: str) -> None:
    """Refuse what :func:`disagreements` finds.

    Raises:
        DataError: The first of them.
    """
    for text in disagreements(config, name):
        raise DataError(text)


def _metrics(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every IoUMetric inside an evaluator's config, and where it stands."""
    if isinstance(value, Mapping):
        kind = value.get('type')
        kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        if kind.rpartition('.')[2] == 'IoUMetric':
            yield path, value
        for key, inner in value.items():
            yield from _metrics(inner, f'{path}.{key}')
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _metrics(inner, f'{path}.{i}')


def _other_ignored(
    name: str, dataset: Mapping[str, Any], cls: Any, config: Any, metrics: Sequence[Any]
) -> Iterator[str]:
    scope, model = config.get('default_scope'), config.get('model') or {}
    readers = ignored_labels(model, scope)
    readers += [(f'{path}.ignore_index', x.get('ignore_index', 255)) for path, x in metrics]
    if not readers:
        return
    if 'ignore_index' in dataset:  # the default of a class says nothing: nothing reads it
        readers.append((f'{name}.dataset.ignore_index', dataset['ignore_index']))
    writers = list(_written(name, dataset, cls, model, scope))
    labels = {label for _, label in readers + writers if label is not None}
    if len(labels) > 1:
        said = '; '.join(f'{where} is {label}' for where, label in readers + writers)
        yield (
            f'{name}: the label of pixels to ignore is not the same everywhere: {said}. mmseg '
            "trains with the heads', evaluates with IoUMetric's, and reads the dataset's nowhere. "
            'Set all of them to the label that the files have there.'
        )


def _written(
    name: str, dataset: Mapping[str, Any], cls: Any, model: Mapping[str, Any], scope: str | None
) -> Iterator[tuple[str, int]]:
    """Where a label that is no class is written into what was read, and which."""
    where = f'{name}.dataset'
    if setting(dataset, cls, 'reduce_zero_label'):
        yield f'what reduce_zero_label of {where} writes', _LOADED_AS_VOID
    known = (getattr(cls, 'METAINFO', None) or {}).get('classes')
    if known and set(_dataset_classes(dataset, cls)) < set(known):
        yield f'what {where} writes for classes that it leaves out', _LOADED_AS_VOID
    if not name.startswith('train'):
        return
    for step in dataset.get('pipeline') or ():
        kind = registered(TRANSFORMS, step, scope)
        if getattr(kind, '__name__', '') == 'Pad':
            value = step.get('pad_val')
            filled = value.get('seg', 255) if isinstance(value, Mapping) else 255
        else:
            filled = setting(step, kind, 'seg_pad_val')
        if isinstance(filled, int):
            yield f'what {kind.__name__} of the pipeline pads with', filled
    before = model.get('data_preprocessor') or {}
    if before.get('size') or (before.get('size_divisor') or 1) > 1:
        filled = setting(before, registered(MODELS, before, scope), 'seg_pad_val')
        if isinstance(filled, int):
            yield 'model.data_preprocessor.seg_pad_val', filled


def _one_channel(model: Mapping[str, Any], scope: str | None) -> Iterator[str]:
    """Heads of one channel: a softmax over it is 1 everywhere, and a sigmoid tells two classes."""
    for name, key, config, cls in _nodes(model, scope):
        if key not in _SEGMENTOR_HEADS:
            continue
        classes = setting(config, cls, 'num_classes')
        channels = setting(config, cls, 'out_channels') or classes
        if channels != 1:
            continue
        losses = setting(config, cls, 'loss_decode') or {}
        for loss in losses if isinstance(losses, list | tuple) else [losses]:
            entropy = str(loss.get('type')).rpartition('.')[2] == 'CrossEntropyLoss'
            if entropy and not loss.get('use_sigmoid') and not loss.get('use_mask'):
                yield (
                    f'{name} has one channel, and its CrossEntropyLoss takes a softmax over it, '
                    'which is 1 for every pixel: nothing could be learned. Set num_classes=2 '
                    '(background is a class), or num_classes=2, out_channels=1 and '
                    'use_sigmoid=True of loss_decode.'
                )
        if isinstance(classes, int) and classes > 2:
            yield (
                f'{name} has one channel for {classes} classes, and can tell two. Leave '
                'out_channels out.'
            )


def _no_labels(
    name: str, dataset: Mapping[str, Any], cls: Any, metrics: Sequence[Any]
) -> Iterator[str]:
    """A folder of images alone, where something reads labels."""
    listing = getattr(cls, 'load_data_list', None)
    if getattr(listing, '__qualname__', '') != 'BaseSegDataset.load_data_list':
        return  # other classes find their labels in other ways
    if (setting(dataset, cls, 'data_prefix') or {}).get('seg_map_path') is not None:
        return
    steps = [str(step.get('type')) for step in dataset.get('pipeline') or ()]
    loads = [f'{step} of its pipeline' for step in steps if step.endswith('LoadAnnotations')]
    reads = loads + [f'IoUMetric of {path}' for path, x in metrics if not x.get('format_only')]
    if not reads:
        return
    given = dict(dataset.get('data_prefix') or {})
    text = (
        f'{name}: the dataset has images alone (no seg_map_path in its data_prefix: {given}), but '
        f'{" and ".join(reads)} need labels. Set data_prefix.seg_map_path to their folder.'
    )
    if not name.startswith('train'):
        evaluator = name.replace('dataloader', 'evaluator')
        text += (
            ' To predict without labels, leave LoadAnnotations out of the pipeline and set '
            f"{evaluator}=dict(type='IoUMetric', format_only=True, output_dir=...)."
        )
    yield text


def _zero_label(name: str, dataset: Mapping[str, Any], cls: Any) -> Iterator[str]:
    """A loading step that treats label 0 in another way than its dataset."""
    reduced = bool(setting(dataset, cls, 'reduce_zero_label'))
    for step in dataset.get('pipeline') or ():
        said = step.get('reduce_zero_label')
        if str(step.get('type')).endswith('LoadAnnotations') and said not in (None, reduced):
            yield (
                f'{name}: reduce_zero_label is {said} in LoadAnnotations of the pipeline, and '
                f'{reduced} in the dataset. Set it in the dataset alone.'
            )


def _dataset_classes(dataset: Mapping[str, Any], cls: Any) -> tuple[str, ...]:
    metainfo = {**(getattr(cls, 'METAINFO', None) or {}), **(dataset.get('metainfo') or {})}
    classes = metainfo.get('classes') or ()
    return () if isinstance(classes, str) else tuple(classes)  # a str is the path of a list


def _classes(loader: Any, scope: str | None) -> tuple[str, ...]:
    found = list(dataset_configs((loader or {}).get('dataset') or {}))
    return _dataset_classes(found[0], registered(DATASETS, found[0], scope)) if found else ()


def _other_order(name: str, trained: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    """Classes that have another label in the training set."""
    moved = [c for c in classes if c in trained and trained.index(c) != classes.index(c)]
    if moved:
        cases = [f'{c} is {trained.index(c)} there, {classes.index(c)} here' for c in moved]
        yield (
            f'{name}: {len(moved)} classes have another label than in train_dataloader: '
            f'{some(cases, 3)}. Give metainfo=dict(classes=...) of both in the same order.'
        )
