"""Parameters of a config's model, and the share of the trunk that a tuner trains."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmsigma.checkpoint import loading
from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import TRUNKS, TUNERS, build

_SIGMA, _FROZEN = {'type': 'SIGMA'}, {'type': 'Frozen'}


def _count(module: nn.Module | None, trained_only: bool = False) -> int:
    if module is None:
        return 0
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained_only)


def count(config: Config) -> dict[str, float]:
    """Parameters by part, from the model that the config builds without weights.

    Args:
        config: An mmseg or mmdet config whose backbone is an ``AdaptedBackbone``, or one of a trunk
            alone, which is then counted with SIGMA at its defaults.

    Returns:
        Numbers of parameters ``trunk``, ``adapters`` (what the tuner adds, inside the trunk too),
        ``neck``, ``head`` (all that is neither backbone nor neck) and ``trained``, and
        ``share_percent``: what trains inside the backbone, in percent of the trunk.

    Raises:
        InvalidSettingError: The model's backbone is no ``AdaptedBackbone``.
    """
    loading.enter(config)
    if 'model' not in config and 'trunk' in config:
        trunk = _count(of_trunk(config, _FROZEN))
        model: Any = nn.Module()
        model.backbone = of_trunk(config)
    else:
        model_config = copy.deepcopy(config.model)
        if 'trunk' not in model_config.get('backbone', {}):
            raise InvalidSettingError(
                'The config has no model.backbone.trunk: its backbone is '
                f'{model_config.get("backbone", {}).get("type")!r}, not mmsigma.AdaptedBackbone.'
            )
        model_config.backbone.trunk.weights = 'random'
        # Built by itself first: a tuner may put parameters of its own inside.
        trunk = _count(MODELS.build({**model_config.backbone, 'tuner': _FROZEN}))
        model = MODELS.build(model_config)
    backbone: AdaptedBackbone = model.backbone
    neck = getattr(model, 'neck', None)
    return {
        'trunk': trunk,
        'adapters': _count(backbone) - trunk,
        'neck': _count(neck),
        'head': _count(model) - _count(backbone) - _count(neck),
        'trained': _count(model, trained_only=True),
        'share_percent': round(100 * _count(backbone, trained_only=True) / trunk, 4),
    }


def of_trunk(config: Config, tuner: Mapping[str, Any] = _SIGMA) -> AdaptedBackbone:
    """The trunk of a config with a tuner; where shapes suffice, without values."""
    TRUNKS.import_from_location()
    family = TRUNKS.module_dict.get(config.trunk.type.removeprefix('mmsigma.'))
    with torch.device('meta' if getattr(family, 'builds_without_values', False) else 'cpu'):
        return AdaptedBackbone({**config.trunk, 'weights': 'random'}, dict(tuner))


def shares(
    trunks: Mapping[str, Config], tuners: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What each tuner trains of each trunk.

    Args:
        trunks: Configs of trunks, by name.
        tuners: ``dict(type=..., **settings)``, by name.

    Returns:
        By name of the trunk: ``trunk``, its number of parameters, and ``tuners``, by name either
        ``adapters`` (numbers of parameters: what the tuner adds), ``trained`` (these, and what it
        trains of the trunk's own) and ``share_percent`` (``trained`` in percent of the trunk), or
        ``refused``, why the trunk cannot carry the tuner.

    Raises:
        UnknownNameError, InvalidSettingError: From a trunk, or from a tuner's settings alone.
    """
    for tuner in tuners.values():
        build(TUNERS, dict(tuner))
    found: dict[str, dict[str, Any]] = {}
    for name, config in trunks.items():
        size = _count(of_trunk(config, _FROZEN))
        by_tuner = {label: _share(config, tuner, size) for label, tuner in tuners.items()}
        found[name] = {'trunk': size, 'tuners': by_tuner}
    return found


def _share(config: Config, tuner: Mapping[str, Any], trunk: int) -> dict[str, Any]:
    try:
        backbone = of_trunk(config, tuner)
    except InvalidSettingError as error:
        return {'refused': str(error)}
    trained = _count(backbone, trained_only=True)
    return {
        'adapters': _count(backbone) - trunk,
        'trained': trained,
        'share_percent': round(100 * trained / trunk, 4),
    }


def table(counts: dict[str, float]) -> str:
    """The counts as aligned lines of text."""
    lines = [f'{name:<14}{counts[name]:>14,}' for name in ('trunk', 'adapters', 'neck', 'head')]
    lines.append(f'{"trained":<14}{counts["trained"]:>14,}')
    lines.append(f'{"share_percent":<14}{counts["share_percent"]:>14.2f}  of the trunk')
    return '\n'.join(lines)


def share_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What :func:`shares` found, in Markdown: a tuner a line, and below them why some refuse."""
    heads = [f'{name} ({entry["trunk"] / 1e6:,.1f} M)' for name, entry in found.items()]
    lines = [f'| tuner | {" | ".join(heads)} |', f'|---|{"--:|" * len(heads)}']
    for tuner in next(iter(found.values()))['tuners']:
        cells = [_cell(entry['tuners'][tuner]) for entry in found.values()]
        lines.append(f'| `{tuner}` | {" | ".join(cells)} |')
    reasons = list(_reasons(found))
    return '\n'.join([*lines, '', *reasons] if reasons else lines)


def _cell(share: Mapping[str, Any]) -> str:
    if 'refused' in share:
        return '–'
    return f'{share["share_percent"]:.2f} % ({share["trained"] / 1e6:,.2f} M)'


def _reasons(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """One line for each reason: its first sentence, the tuners and the trunks that it is about."""
    trunks: dict[tuple[str, str], list[str]] = {}
    for name, entry in found.items():
        for tuner, share in entry['tuners'].items():
            if 'refused' in share:
                reason = share['refused'].partition('. ')[0].rstrip('.')
                trunks.setdefault((reason, tuner), []).append(name)
    tuners: dict[tuple[str, str], list[str]] = {}
    for (reason, tuner), names in trunks.items():
        tuners.setdefault((reason, ', '.join(names)), []).append(f'`{tuner}`')
    for (reason, on), labels in tuners.items():
        yield f'- {", ".join(labels)} on {on}: {reason}.'
