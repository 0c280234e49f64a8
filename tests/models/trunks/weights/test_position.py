"""Position embeddings at other grids, by the method that the config names."""

import pytest
import torch
from torch import Tensor

from mmsigma.errors import CheckpointMismatchError, UnknownNameError
from mmsigma.models.trunks.base import Trunk
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.tiny import backbone, images, same, trunk_config


def positions(trunk: Trunk, height: int, width: int) -> Tensor:
    """The position embedding of the patches ``(1, C, h, w)``, by comparing with none."""
    x = torch.zeros(1, 3, height * trunk.patch, width * trunk.patch)
    model = trunk.model
    with torch.no_grad():
        tokens, state = trunk.embed(x)
        return state.layout.to_map(tokens) - model.patch_embed(x).permute(0, 3, 1, 2)


@pytest.mark.parametrize('size', [(4, 4), (2, 2), (3, 8), (7, 5)])
@pytest.mark.parametrize('trunk', ['dinov2', 'registers', 'siglip'])
@pytest.mark.parametrize('method', ['bicubic', 'bicubic-antialias'])
def test_positions_of_an_image(method: str, trunk: str, size: tuple[int, int]) -> None:
    own = build(REGISTRY, trunk_config(trunk, pos_resample=method))
    table = own.model.pos_embed.detach()[:, -16:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    antialias = method == 'bicubic-antialias'
    expected = torch.nn.functional.interpolate(table, size, mode='bicubic', antialias=antialias)
    if size == (4, 4):
        expected = table
    assert (positions(own, *size) - expected).abs().max() < 1e-5


@pytest.mark.parametrize('trunk', ['dinov2', 'registers', 'siglip', 'clip'])
def test_on_its_own_grid_the_method_is_nothing(trunk: str) -> None:
    options = {'trunk_options': {'pos_resample': 'bicubic'}}
    assert same(backbone(trunk, **options)(images(trunk)), backbone(trunk)(images(trunk)))


def test_the_method_is_on_record() -> None:
    other = backbone(trunk_options={'pos_resample': 'bicubic'})
    assert backbone().record()['trunk'] == 'timm/vit_small_patch14_dinov2'
    assert other.record()['trunk'] == 'timm/vit_small_patch14_dinov2?pos_resample=bicubic'
    with pytest.raises(CheckpointMismatchError, match='pos_resample=bicubic'):
        backbone().load_state_dict(other.state_dict())


def test_an_unknown_method() -> None:
    with pytest.raises(UnknownNameError, match="mean 'bicubic'"):
        build(REGISTRY, trunk_config(pos_resample='bicubik'))
