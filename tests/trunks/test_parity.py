"""With no adapter, or SIGMA at step 0, features equal upstream's own, to the bit."""

import pytest
import torch
import torch.nn.functional as F

from mmsigma.injection import POSITIONS
from tests.tiny import PATCH, TRUNKS, backbone, images, sigma, upstream_maps

# In multiples of the patch, plus pixels; the tiny trunks' native grid is 4 x 4.
SIZES = {
    'square': ((4, 0), (4, 0)),
    'non-square': ((4, 0), (6, 0)),
    'odd': ((4, 1), (6, -1)),
    'smaller': ((2, 0), (3, 0)),
    'one-row': ((1, -3), (5, 0)),
}
PLACES = [*POSITIONS, 'both', POSITIONS, ['after_mlp', 'parallel_attention']]


def check(trunk: str, tuner: str | dict, size: str = 'odd', batch: int = 2, norm: bool = True):
    patch = PATCH[trunk]
    height, width = (tokens * patch + pixels for tokens, pixels in SIZES[size])
    x = images(trunk, height, width, batch)
    padded = F.pad(x, (0, -width % patch, 0, -height % patch))
    with torch.no_grad():
        expected = upstream_maps(trunk, padded, norm)
        maps = backbone(trunk, tuner, trunk_options={'final_norm': norm})(x)
    assert len(maps) == 2
    for ours in maps:
        assert ours.shape == (batch, 32, -(-height // patch), -(-width // patch))
        assert ours.is_contiguous()
    for ours, theirs in zip(maps[-len(expected) :], expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('trunk', TRUNKS)
def test_frozen_is_upstream(trunk: str, size: str, batch: int, norm: bool) -> None:
    check(trunk, 'Frozen', size, batch, norm)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('trunk', TRUNKS)
def test_sigma_starts_as_upstream(trunk: str, size: str) -> None:
    check(trunk, 'SIGMA', size)


@pytest.mark.parametrize('position', PLACES, ids=str)
@pytest.mark.parametrize('trunk', TRUNKS)
def test_sigma_starts_as_upstream_in_every_position(trunk: str, position: str) -> None:
    check(trunk, sigma(position=position, scale='learned'), norm=trunk == 'registers')


@pytest.mark.parametrize('blocks', [None, [0], [-1], [1, 0]])
def test_sigma_starts_as_upstream_in_some_blocks(blocks: list[int] | None) -> None:
    check('registers', sigma(blocks=blocks))


@pytest.mark.parametrize('gate', ['spatial', 'static', 'mean'])
@pytest.mark.parametrize('prefix', ['share', 'skip'])
def test_sigma_starts_as_upstream_with_every_gate(gate: str, prefix: str) -> None:
    check('registers', sigma(gate=gate, prefix_tokens=prefix))


def test_padding_is_what_odd_sizes_are_compared_with() -> None:
    """The border that padding adds changes the maps, so the tests above do see it."""
    x = images('dinov2', 57, 83)
    cropped = backbone('dinov2', 'Frozen')(x[..., :56, :70])
    assert not torch.equal(backbone('dinov2', 'Frozen')(x)[-1][..., :4, :5], cropped[-1])
