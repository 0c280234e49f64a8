"""Tiny trunks and the builders that the tests share: width 32, two blocks, made in milliseconds.

Their weights are random and saved to files, so that upstream's own model and a trunk of ours can be
given the same ones; none is zero or tiny, as layer scales are at initialisation.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmsigma import registry
from mmsigma.backbone import AdaptedBackbone
from mmsigma.injection import POSITIONS

_FOLDER = TemporaryDirectory(prefix='mmsigma-tests-')
_TIMM = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
_ARCH = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}

# One line per trunk that the contract tests run on.
TRUNKS: dict[str, dict[str, Any]] = {
    'dinov2': {
        'type': 'TimmViT',
        'model_name': 'vit_small_patch14_dinov2',
        'model_args': {**_TIMM, 'img_size': 56},
    },
    'registers': {
        'type': 'TimmViT',
        'model_name': 'vit_small_patch14_reg4_dinov2',
        'model_args': {**_TIMM, 'img_size': 56},
    },
    'siglip': {  # no prefix tokens at all
        'type': 'TimmViT',
        'model_name': 'vit_base_patch16_siglip_512',
        'model_args': {**_TIMM, 'img_size': 64},
    },
    'mmpretrain': {
        'type': 'MMPretrainViT',
        'arch': _ARCH,
        'model_args': {'img_size': 56, 'patch_size': 14},
    },
    'mmpretrain-layerscale': {
        'type': 'MMPretrainViT',
        'arch': _ARCH,
        'model_args': {'img_size': 56, 'patch_size': 14, 'layer_scale_init_value': 0.1},
    },
}
PATCH = {name: 16 if name == 'siglip' else 14 for name in TRUNKS}

# Small settings of tuners that have any; every other registered tuner is tested at its defaults.
_SMALL: dict[str, dict[str, Any]] = {
    'SIGMA': {'bottleneck': 8, 'gate_hidden': 4, 'modulation_hidden': 4},
    'Mona': {'bottleneck': 8},
}
_VARIANTS: dict[str, dict[str, Any]] = {
    'SIGMA-everywhere': {'type': 'SIGMA', 'position': POSITIONS, 'scale': 'learned'},
    'SIGMA-spatial-both-skip': {
        'type': 'SIGMA',
        'gate': 'spatial',
        'position': 'both',
        'prefix_tokens': 'skip',
    },
    'SIGMA-static-plain-last': {'type': 'SIGMA', 'gate': 'static', 'form': 'plain', 'blocks': [-1]},
    'Mona-zero': {'type': 'Mona', 'zero_init': True},
}
registry.TUNERS.import_from_location()
_REGISTERED = {name: {'type': name} for name in sorted(registry.TUNERS.module_dict)}
TUNERS: dict[str, dict[str, Any]] = {
    label: {**_SMALL.get(config['type'], {}), **config}
    for label, config in (_REGISTERED | _VARIANTS).items()
}
# The contract table: every registered tuner on every trunk, and its variants on one.
CONTRACT = [(tuner, trunk) for tuner in _REGISTERED for trunk in TRUNKS]
CONTRACT += [(tuner, 'registers') for tuner in _VARIANTS]


@cache
def state(trunk: str) -> dict[str, Tensor]:
    """The weights of a tiny trunk, in upstream's layout."""
    generator = torch.Generator().manual_seed(0)
    own = _upstream(trunk).state_dict()
    return {name: 0.3 * torch.randn(v.shape, generator=generator) for name, v in own.items()}


@cache
def weights_file(trunk: str) -> str:
    """A file with these weights."""
    path = Path(_FOLDER.name, f'{trunk}.safetensors')
    save_file(state(trunk), path)
    return str(path)


def upstream_maps(trunk: str, images: Tensor, norm: bool = True) -> list[Tensor]:
    """What upstream's own model returns: the maps of the last blocks, all it can give so."""
    if TRUNKS[trunk]['type'] == 'TimmViT':
        model = _loaded(_upstream(trunk), trunk)
        return model.forward_intermediates(images, norm=norm, intermediates_only=True)
    # mmpretrain's norm goes with the last block only.
    options: dict[str, Any] = {'out_indices': [-1]} if norm else {'out_indices': [0, 1]}
    model = _loaded(_upstream(trunk, final_norm=norm, **options), trunk)
    return list(model(images))


def _upstream(trunk: str, **options: Any) -> nn.Module:
    config = TRUNKS[trunk]
    if config['type'] == 'TimmViT':
        options |= {'num_classes': 0, 'global_pool': '', 'dynamic_img_size': True}
        return timm.create_model(config['model_name'], **options, **config['model_args'])
    from mmpretrain.models import VisionTransformer

    return VisionTransformer(config['arch'], out_type='featmap', **options, **config['model_args'])


def _loaded(model: nn.Module, trunk: str) -> nn.Module:
    model.load_state_dict({name: state(trunk)[name] for name in model.state_dict()})
    model.eval()  # mmpretrain's returns None
    return model


def trunk_config(trunk: str = 'dinov2', **options: Any) -> dict[str, Any]:
    """The config of a tiny trunk, with its weights unless others are given."""
    return {'weights': weights_file(trunk), **TRUNKS[trunk], **options}


def backbone(
    trunk: str = 'dinov2',
    tuner: str | dict[str, Any] = 'SIGMA',
    seed: int = 0,
    trunk_options: dict[str, Any] | None = None,
    **options: Any,
) -> AdaptedBackbone:
    """An adapted backbone in eval mode; ``seed`` decides the adapters' initial values."""
    frozen = trunk_config(trunk, **(trunk_options or {}))
    adapted = TUNERS[tuner] if isinstance(tuner, str) else tuner
    torch.manual_seed(seed)  # last: making the weights draws random numbers too
    return AdaptedBackbone(frozen, dict(adapted), **options).eval()


def sigma(**settings: Any) -> dict[str, Any]:
    """A small SIGMA with these settings."""
    return {**TUNERS['SIGMA'], **settings}


def images(
    trunk: str = 'dinov2', height: int | None = None, width: int | None = None, batch: int = 2
) -> Tensor:
    """Random images, 4 x 4 tokens large unless a size in pixels is given."""
    generator = torch.Generator().manual_seed(1)
    size = (height or 4 * PATCH[trunk], width or 4 * PATCH[trunk])
    return torch.randn(batch, 3, *size, generator=generator)


def shake(module: nn.Module, seed: int = 2) -> None:
    """Give every parameter that trains a random value, so that nothing hides behind a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def loss(maps: tuple[Tensor, ...]) -> Tensor:
    """A loss that every value of the maps takes part in."""
    generator = torch.Generator().manual_seed(3)
    return sum((m * torch.randn(m.shape, generator=generator)).sum() for m in maps)


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Whether two tuples of maps are equal to the bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))
