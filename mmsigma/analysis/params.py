"""Parameters of a config's model, and the share of the trunk that a tuner trains."""

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn

from mmsigma.backbone import AdaptedBackbone
from mmsigma.errors import InvalidSettingError
from mmsigma.registry import TRUNKS


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
        Numbers of parameters ``trunk``, ``adapters``, ``neck``, ``head`` (all that is neither
        backbone nor neck) and ``trained``, and ``share_percent``: what trains inside the backbone,
        in percent of the trunk.

    Raises:
        InvalidSettingError: The model's backbone is no ``AdaptedBackbone``.
    """
    import_modules_from_strings(**config.get('custom_imports', {'imports': []}))
    if 'model' not in config and 'trunk' in config:
        model: Any = nn.Module()
        model.backbone = of_trunk(config)
    else:
        init_default_scope(config.get('default_scope', 'mmengine'))
        model_config = copy.deepcopy(config.model)
        if 'trunk' not in model_config.get('backbone', {}):
            raise InvalidSettingError(
                'The config has no model.backbone.trunk: its backbone is '
                f'{model_config.get("backbone", {}).get("type")!r}, not mmsigma.AdaptedBackbone.'
            )
        model_config.backbone.trunk.weights = 'random'
        model = MODELS.build(model_config)
    backbone: AdaptedBackbone = model.backbone
    neck = getattr(model, 'neck', None)
    trunk = _count(backbone.trunk)
    return {
        'trunk': trunk,
        'adapters': _count(backbone.adapters),
        'neck': _count(neck),
        'head': _count(model) - _count(backbone) - _count(neck),
        'trained': _count(model, trained_only=True),
        'share_percent': round(100 * _count(backbone, trained_only=True) / trunk, 4),
    }


def of_trunk(config: Config) -> AdaptedBackbone:
    """The trunk of a config with SIGMA at its defaults; where shapes suffice, without values."""
    TRUNKS.import_from_location()
    family = TRUNKS.module_dict.get(config.trunk.type.removeprefix('mmsigma.'))
    with torch.device('meta' if getattr(family, 'builds_without_values', False) else 'cpu'):
        return AdaptedBackbone({**config.trunk, 'weights': 'random'}, {'type': 'SIGMA'})


def table(counts: dict[str, float]) -> str:
    """The counts as aligned lines of text."""
    lines = [f'{name:<14}{counts[name]:>14,}' for name in ('trunk', 'adapters', 'neck', 'head')]
    lines.append(f'{"trained":<14}{counts["trained"]:>14,}')
    lines.append(f'{"share_percent":<14}{counts["share_percent"]:>14.2f}  of the trunk')
    return '\n'.join(lines)
