"""Tiny trunks and the builders that the tests share: width 32, two blocks, made in milliseconds.

Their weights are random and saved to files, so that upstream's own model and a trunk of ours can be
given the same ones; none is zero or tiny, as layer scales are at initialisation.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmsigma import registry
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.tuners.base import missing
from mmsigma.models.tuners.injection import POSITIONS
from tests.tiny_trunks import TRUNKS

_FOLDER = TemporaryDirectory(prefix='mmsigma-tests-')

# Linear layers that no family reads without calling them.
_LINEARS = r'.*\b((attn|w_msa)\.proj|\w+_out_proj|fc\d|mlp\.w\d|ffn\.layers\.(0\.0|1))'
# Small settings of tuners that have any; every other registered tuner is tested at its defaults.
_SMALL: dict[str, dict[str, Any]] = {
    'SIGMA': {'bottleneck': 8, 'gate_hidden': 4, 'modulation_hidden': 4},
    'Mona': {'bottleneck': 8},
    'Adapter': {'bottleneck': 4},
    'AdaptFormer': {'bottleneck': 4},
    'Convpass': {'bottleneck': 4},
    'LoRand': {'rank': 2},
    'HFPeft': {'peft_type': 'LORA', 'r': 4, 'lora_alpha': 4, 'target_modules': _LINEARS},
    'Rein': {'tokens': 6, 'rank': 2},
    'VFMAdapter': {'bottleneck': 4, 'rank': 2},
    'VPT': {'prompts': 3},
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
    'LoRand-zero': {'type': 'LoRand', 'zero_init': True},
    'Rein-zero': {'type': 'Rein', 'zero_init': True},
    'Partial-2-norm': {'type': 'Partial', 'k': 2, 'final_norm': True},
}
registry.TUNERS.import_from_location()
_REGISTERED = {name: {'type': name} for name in sorted(registry.TUNERS.module_dict)}
TUNERS: dict[str, dict[str, Any]] = {
    label: {**_SMALL.get(config['type'], {}), **config}
    for label, config in (_REGISTERED | _VARIANTS).items()
}
# Methods that sit inside a block, and so refuse trunks whose blocks run whole.
INSIDE = {'Adapter', 'AdaptFormer', 'Convpass', 'LoRand', 'Mona', 'VFMAdapter'}


def carries(trunk: str, tuner: str) -> bool:
    """Whether a tuner, of :data:`TUNERS`, can be attached to a trunk, as both declare it."""
    return not missing(TRUNKS[trunk].config, TUNERS[tuner])


# One trunk of every kind: plain with registers, tables of relative positions, pooling, windows that
# merge behind norms of the branches, whole blocks, and windows with weights shared by all blocks.
KINDS = ('registers', 'beit', 'hieradet', 'swinv2', 'convnext', 'mmpretrain-beit-shared')
# One tuner for every way to be in a trunk: adapters at every position, outputs of layers, prompts,
# the trunk's own parameters (some, all), modules that blocks share, peft's layers, nothing at all.
MECHANISMS = (
    'SIGMA', 'SIGMA-everywhere', 'SSF', 'VPT', 'BitFit', 'Full', 'Rein', 'HFPeft', 'Frozen',
)  # fmt: skip


def pairs(tuners: Iterable[str], trunks: Iterable[str]) -> list[tuple[str, str]]:
    """All pairs of these that go together."""
    trunks = list(trunks)
    return [(u, t) for u in tuners for t in trunks if carries(t, u)]


# What is tested where the pair might matter: every mechanism meets every kind of trunk, every tuner
# and every trunk is there at least once.
CONTRACT = list(
    dict.fromkeys(
        [
            *pairs(TUNERS, ['registers']),
            *pairs(MECHANISMS, KINDS),
            *pairs(['SIGMA'], TRUNKS),
            *pairs(sorted(INSIDE), ['swin']),
        ]
    )
)
# For what state dicts, modes and copies do with a mechanism: all of them, on two kinds of trunk.
STATE = pairs(MECHANISMS, ['registers', 'swinv2'])
REFUSED = [(u, t) for u in _REGISTERED for t in TRUNKS if not carries(t, u)]


@cache
def state(trunk: str) -> dict[str, Tensor]:
    """The weights of a tiny trunk, in upstream's layout."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.3 * torch.randn(v.shape, generator=generator) if v.is_floating_point() else v
        for name, v in TRUNKS[trunk].upstream(True).state_dict().items()
    }


@cache
def weights_file(trunk: str) -> str:
    """A file with these weights."""
    path = Path(_FOLDER.name, f'{trunk}.safetensors')
    save_file({name: v.contiguous() for name, v in state(trunk).items()}, path)
    return str(path)


def upstream(trunk: str, norm: bool = True) -> nn.Module:
    """Upstream's own model, in eval mode, with the same weights."""
    model = TRUNKS[trunk].upstream(norm)
    model.load_state_dict({name: state(trunk)[name] for name in model.state_dict()})
    model.eval()  # mmpretrain's returns None
    return model


def upstream_maps(trunk: str, images: Tensor, norm: bool = True) -> list[Tensor]:
    """What upstream's own model returns: the maps of the last blocks, all it can give so."""
    return list(TRUNKS[trunk].maps(upstream(trunk, norm), images, norm))


def padded(trunk: str, images: Tensor) -> Tensor:
    """Images with zeros at the right and bottom, to the multiple that the trunk needs."""
    tiny = TRUNKS[trunk]
    multiple = tiny.multiple or tiny.patch
    height, width = images.shape[-2:]
    return nn.functional.pad(images, (0, -width % multiple, 0, -height % multiple))


def map_shapes(trunk: str, height: int, width: int) -> list[tuple[int, int, int]]:
    """Channels, rows and columns of the default output maps of an image of this size."""
    tiny = TRUNKS[trunk]
    strides = tiny.strides or [tiny.patch] * len(tiny.widths)
    return [(c, -(-height // s), -(-width // s)) for c, s in zip(tiny.widths, strides, strict=True)]


def trunk_config(trunk: str = 'dinov2', **options: Any) -> dict[str, Any]:
    """The config of a tiny trunk, with its weights unless others are given."""
    return {'weights': weights_file(trunk), **TRUNKS[trunk].config, **options}


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
    side = 4 * TRUNKS[trunk].patch
    size = (height or side, width or side)
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
