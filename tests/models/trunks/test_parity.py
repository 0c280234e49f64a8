"""With no adapter, or SIGMA at step 0, features equal upstream's own, to the bit."""

import pytest
import torch

from mmsigma.models.tuners.injection import POSITIONS
from tests.tiny import (
    KINDS,
    TRUNKS,
    backbone,
    images,
    map_shapes,
    padded,
    sigma,
    upstream_maps,
)

# In tokens, plus pixels; the native grid of the tiny trunks is 4 x 4.
SIZES = {
    'square': ((4, 0), (4, 0)),
    'non-square': ((4, 0), (6, 0)),
    'odd': ((4, 1), (6, -1)),
    'smaller': ((2, 0), (3, 0)),
    'one-row': ((1, 0), (5, 0)),
    'larger': ((9, 0), (17, 3)),
}
PLACES = [*POSITIONS, 'both', POSITIONS, ['after_mlp', 'parallel_attention']]
# Every trunk at sizes that resample what it knows of positions, every kind of trunk at all sizes.
FROZEN = [
    (trunk, norm, size)
    for trunk in TRUNKS
    for norm in TRUNKS[trunk].norms
    for size in SIZES
    if trunk in KINDS or size in ('odd', 'larger')
]
SIGMA = [
    (trunk, place)
    for trunk in TRUNKS
    for place in PLACES
    if set(POSITIONS) <= set(TRUNKS[trunk].positions) or place in TRUNKS[trunk].positions
    if trunk in KINDS or place in (POSITIONS, 'after_block')
]


def check(trunk: str, tuner: str | dict, size: str = 'odd', batch: int = 2, norm: bool = True):
    patch, norms = TRUNKS[trunk].patch, TRUNKS[trunk].norms
    norm = norm if norm in norms else norms[0]
    height, width = (tokens * patch + pixels for tokens, pixels in SIZES[size])
    x = images(trunk, height, width, batch)
    with torch.no_grad():
        expected = upstream_maps(trunk, padded(trunk, x), norm)
        options = {'final_norm': norm} if len(norms) > 1 else {}
        maps = backbone(trunk, tuner, trunk_options=options)(x)
    assert [tuple(ours.shape[1:]) for ours in maps] == map_shapes(trunk, height, width)
    assert all(ours.is_contiguous() and len(ours) == batch for ours in maps)
    for ours, theirs in zip(maps[-len(expected) :], expected, strict=True):
        assert torch.equal(ours, theirs[..., : ours.shape[-2], : ours.shape[-1]])


@pytest.mark.parametrize(('trunk', 'norm', 'size'), FROZEN)
def test_frozen_is_upstream(trunk: str, norm: bool, size: str) -> None:
    check(trunk, 'Frozen', size, 1 if size == 'larger' else 3, norm)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('trunk', KINDS)
def test_sigma_starts_as_upstream(trunk: str, size: str) -> None:
    check(trunk, 'SIGMA', size)


@pytest.mark.parametrize(('trunk', 'position'), SIGMA, ids=str)
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
