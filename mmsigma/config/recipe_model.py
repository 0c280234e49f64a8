"""What a leaf config says of its model and rates: where its base files must fit each other."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mmsigma.errors import InvalidSettingError

_LINE = 100
_CLASSES = 'num_classes=_base_.num_classes'
_NECK = ('neck', ['in_channels=_base_.widths', 'in_strides=_base_.strides'])
_LEVELS = 'dict(featmap_strides=levels[:-1])'

# A setting of the model: its name, and either what is inside its dict(...) or its value.
Setting = tuple[str, list[str] | str]


def source(trunk: Config, head: Config, data: Config) -> str:
    """Python for the end of a leaf that has these base files.

    Args:
        trunk: Its maps are of one stride (a plain trunk) or of several (a hierarchical one).
        head: A ``SimpleFeaturePyramid`` is kept on plain trunks, and with ``source='each'`` on
            hierarchical ones, which otherwise get the head's ``fpn`` or no neck. ``pad_tokens``,
            ``level_sizes`` and ``class_weights`` are used where the head file has them.
        data: ``num_classes`` goes to the head, ``inference`` to ``test_cfg``.

    Raises:
        InvalidSettingError: A head for another number of classes that cannot be changed from here.
    """
    plain = len(set(trunk.strides)) == 1
    part = _mmseg if 'decode_head' in head.model else _mmdet
    before, settings = part(head, data, plain)
    inside = ''.join(f'    {_fit(*setting)},\n' for setting in settings)
    return ''.join(f'{line}\n' for line in before) + f'model = dict(\n{inside})\n'


def rates(tuner: Config, schedule: Config) -> str:
    """Python behind the model: what trains whole has the decay of rates that its schedule names.

    Args:
        tuner: All but ``Full`` train at the schedule's plain rates.
        schedule: ``full_decay_rate`` is used where it has one.
    """
    if tuner.tuner.type.rpartition('.')[2] != 'Full' or 'full_decay_rate' not in schedule:
        return ''
    return 'optim_wrapper = dict(paramwise_cfg=dict(decay_rate=_base_.full_decay_rate))\n'


def _fit(name: str, value: list[str] | str) -> str:
    """A setting in as few lines as it needs, as ruff formats it."""
    if isinstance(value, str):
        return f'{name}={value}'
    line = f'{name}=dict({", ".join(value)})'
    if len(line) + 5 <= _LINE:
        return line
    inner = ' ' * 8 + ', '.join(value)
    if len(inner) > _LINE:
        inner = '\n'.join(f'        {setting},' for setting in value)
    return f'{name}=dict(\n{inner}\n    )'


def _backbone(rest: str = '', outputs: bool = True) -> Setting:
    maps = [f'out_indices=_base_.out_indices{rest}'] if outputs else []
    return 'backbone', ['trunk=_base_.trunk', 'tuner=_base_.tuner', *maps]


def _mmseg(head: Config, data: Config, plain: bool) -> tuple[list[str], list[Setting]]:
    neck = head.model.get('neck')
    kept = bool(neck) and (plain or neck.get('source') == 'each')
    own_outputs = 'out_indices' in head.model.backbone
    before: list[str] = []
    inside: list[str] = []
    if own_outputs:
        inside += ['in_channels=_base_.widths[-1]', 'channels=_base_.widths[-1]']
    elif not kept:
        inside.append('in_channels=_base_.widths')
    if 'num_classes' in data:
        inside.append(_CLASSES)
    if 'class_weights' in head:
        before.append('weights = _base_.class_weights')
        weights = 'weights.each * _base_.num_classes + weights.none'
        inside.append(f'loss_cls=dict(class_weight={weights})')
    settings = [('data_preprocessor', '_base_.normalisation'), _backbone(outputs=not own_outputs)]
    if neck:
        settings.append(_NECK if kept else ('neck', 'None'))
    if inside:
        settings.append(('decode_head', inside))
    if 'inference' in data:
        settings.append(('test_cfg', '_base_.inference'))
    return before, settings


def _mmdet(head: Config, data: Config, plain: bool) -> tuple[list[str], list[Setting]]:
    model = head.model
    before: list[str] = []
    settings: list[Setting] = [('data_preprocessor', '_base_.normalisation')]
    parts: dict[str, list[str]] = {}
    if plain:
        before.append('pad = _base_.pad_tokens * _base_.strides[-1]')
        padding = ['pad_size_divisor=pad', '**_base_.normalisation']
        settings = [('data_preprocessor', padding), _backbone(), _NECK]
        if 'level_sizes' in head:
            before.append('levels = [size * _base_.strides[-1] for size in _base_.level_sizes]')
            name = 'rpn_head' if 'rpn_head' in model else 'bbox_head'
            parts[name] = ['anchor_generator=dict(strides=levels)']
    elif 'fpn' in head:
        # A pyramid from stride 8 on reads no map of stride 4; FPN has a setting of its own for it.
        rest = '[1:]' if _starts_late(head) else ''
        inside = ['_delete_=True', f'in_channels=_base_.widths{rest}', '**_base_.fpn']
        settings += [_backbone(rest), ('neck', inside)]
    else:
        settings += [_backbone(), ('neck', 'None')]
        parts['panoptic_head'] = ['in_channels=_base_.widths']

    names = [key for key in model.get('roi_head', {}) if key.endswith('_roi_extractor')]
    by_loop = ''
    if plain and 'level_sizes' in head and len(names) == 1:
        parts['roi_head'] = [f'{names[0]}={_LEVELS}']
    elif plain and 'level_sizes' in head and names:
        kinds = tuple(name.partition('_')[0] for name in names)
        by_loop = f"{{f'{{x}}_roi_extractor': {_LEVELS} for x in {kinds}}}"
    for name, count in _counts(model):
        if count == data.num_classes:
            continue
        if not name or by_loop:
            raise InvalidSettingError(
                f'The head ({model.type}) is made for {count} classes, the data has '
                f'{data.num_classes}. Write a head file of your own for them, and give its path.'
            )
        inner = f'bbox_head=dict({_CLASSES})' if name == 'roi_head' else _CLASSES
        parts.setdefault(name, []).append(inner)
    settings += parts.items()
    return before, [*settings, ('roi_head', by_loop)] if by_loop else settings


def _starts_late(head: Config) -> bool:
    return min(head.model.neck.get('strides', [4])) > 4 and 'start_level' not in head.fpn


def _counts(model: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The part of a detector that counts classes; no name where a leaf cannot change it."""
    if 'panoptic_head' in model:
        part = model['panoptic_head']
        yield '', part['num_things_classes'] + part['num_stuff_classes']
        return
    name = 'roi_head' if 'roi_head' in model else 'bbox_head'
    part = model['roi_head']['bbox_head'] if name == 'roi_head' else model['bbox_head']
    yield ('', part[0]['num_classes']) if isinstance(part, list) else (name, part['num_classes'])
