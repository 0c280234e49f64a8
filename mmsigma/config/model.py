"""What follows from base files: where a trunk, a tuner, a head and data must fit each other."""

from collections.abc import Mapping
from typing import Any

from mmsigma.errors import InvalidSettingError

_NEEDED = ('trunk', 'out_indices', 'widths', 'strides', 'normalisation', 'tuner', 'model')


def connect(bases: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the model that connect a trunk, a tuner, a head and data.

    They are merged into the head's ``model`` where a config says, below its ``_base_``::

        model = connect(_base_)

    A trunk is plain where its maps are of one stride, and hierarchical where they are of several.
    A head's ``SimpleFeaturePyramid`` is kept on plain trunks, and with ``source='each'`` on
    hierarchical ones, which otherwise get the head's ``fpn`` or no neck.

    Args:
        bases: What the base files say together. Of a head, ``pad_tokens``, ``level_sizes`` and
            ``class_weights`` are used where it has them. Of the data, ``num_classes`` goes to the
            head, and ``inference`` to ``test_cfg``.

    Raises:
        InvalidSettingError: No trunk, tuner or head; or a head for another number of classes that
            cannot be changed from here.
    """
    missing = [name for name in _NEEDED if name not in bases]
    if missing:
        raise InvalidSettingError(
            f'There is no `{missing[0]}` to connect, only {", ".join(bases)}. Name a trunk, a '
            'tuner, a head and data in _base_, and write model = connect(_base_).'
        )
    plain = len(set(bases['strides'])) == 1
    part = _mmseg if 'decode_head' in bases['model'] else _mmdet
    return part(bases, plain)


def rates(bases: Mapping[str, Any]) -> dict[str, Any]:
    """What trains whole has the decay of rates that its schedule names.

    For configs whose schedule has ``full_decay_rate``::

        optim_wrapper = rates(_base_)

    Args:
        bases: What the base files say together. All tuners but ``Full`` train at the schedule's
            plain rates.
    """
    if bases['tuner']['type'].rpartition('.')[2] != 'Full' or 'full_decay_rate' not in bases:
        return {}
    return dict(paramwise_cfg=dict(decay_rate=bases['full_decay_rate']))


def _backbone(bases: Mapping[str, Any], first: int = 0) -> dict[str, Any]:
    return dict(
        trunk=bases['trunk'], tuner=bases['tuner'], out_indices=bases['out_indices'][first:]
    )


def _pyramid(bases: Mapping[str, Any]) -> dict[str, Any]:
    return dict(in_channels=bases['widths'], in_strides=bases['strides'])


def _mmseg(bases: Mapping[str, Any], plain: bool) -> dict[str, Any]:
    head = bases['model']
    neck = head.get('neck')
    model: dict[str, Any] = dict(
        data_preprocessor=bases['normalisation'], backbone=_backbone(bases), decode_head={}
    )
    decode_head = model['decode_head']
    keeps_neck = bool(neck) and (plain or neck.get('source') == 'each')
    if neck:
        model['neck'] = _pyramid(bases) if keeps_neck else None
    if 'out_indices' in head['backbone']:  # a head on the last map alone, which says so
        del model['backbone']['out_indices']
        decode_head.update(in_channels=bases['widths'][-1], channels=bases['widths'][-1])
    elif not keeps_neck:
        decode_head['in_channels'] = bases['widths']
    if 'num_classes' in bases:
        decode_head['num_classes'] = bases['num_classes']
    if 'class_weights' in bases:
        weights = bases['class_weights']
        each = weights['each'] * bases['num_classes']
        decode_head['loss_cls'] = dict(class_weight=each + weights['none'])
    if 'inference' in bases:
        model['test_cfg'] = bases['inference']
    return model


def _mmdet(bases: Mapping[str, Any], plain: bool) -> dict[str, Any]:
    head, normalisation, token = bases['model'], bases['normalisation'], bases['strides'][-1]
    model: dict[str, Any] = dict(data_preprocessor=normalisation, backbone=_backbone(bases))
    if plain:
        pad = bases['pad_tokens'] * token
        model['data_preprocessor'] = dict(pad_size_divisor=pad, **normalisation)
        model['neck'] = _pyramid(bases)
        if 'level_sizes' in bases:
            levels = [size * token for size in bases['level_sizes']]
            anchors = 'rpn_head' if 'rpn_head' in head else 'bbox_head'
            model[anchors] = dict(anchor_generator=dict(strides=levels))
            for name in head.get('roi_head', {}):
                if name.endswith('_roi_extractor'):
                    extractors = model.setdefault('roi_head', {})
                    extractors[name] = dict(featmap_strides=levels[:-1])
    elif 'fpn' in bases:
        # A pyramid from stride 8 on reads no map of stride 4; FPN has a setting of its own for it.
        late = min(head['neck'].get('strides', [4])) > 4 and 'start_level' not in bases['fpn']
        first = 1 if late else 0
        model['backbone'] = _backbone(bases, first)
        model['neck'] = dict(_delete_=True, in_channels=bases['widths'][first:], **bases['fpn'])
    else:
        model['neck'] = None
        model['panoptic_head'] = dict(in_channels=bases['widths'])
    _set_classes(model, head, bases['num_classes'])
    return model


def _set_classes(model: dict[str, Any], head: Mapping[str, Any], count: int) -> None:
    """Let a detector's parts count the classes of the data, where its head counts others."""
    places: list[tuple[str, ...]] = []
    if 'panoptic_head' in head:
        part = head['panoptic_head']
        own = part['num_things_classes'] + part['num_stuff_classes']
    elif 'roi_head' in head:
        boxes = head['roi_head']['bbox_head']
        cascade = isinstance(boxes, list)  # which merging could only replace as a whole
        own = (boxes[0] if cascade else boxes)['num_classes']
        if not cascade:
            names = [name for name in ('bbox_head', 'mask_head') if name in head['roi_head']]
            places = [('roi_head', name) for name in names]
    else:
        own, places = head['bbox_head']['num_classes'], [('bbox_head',)]
    if own == count:
        return
    if not places:
        raise InvalidSettingError(
            f'The head ({head["type"]}) is made for {own} classes, the data has {count}. Write a '
            'head file of your own for them, and give its path.'
        )
    for place in places:
        part = model
        for name in place:
            part = part.setdefault(name, {})
        part['num_classes'] = count
