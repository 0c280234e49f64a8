"""Partial fine-tuning: which blocks, which norm, and what it refuses."""

import pytest

from mmsigma.errors import InvalidSettingError
from mmsigma.models.tuners.partial import Partial
from tests.sample import sampled
from tests.tiny import KINDS, TRUNKS, backbone, images, loss

# What runs between the last block and its map, by upstream's name.
FINAL = {
    'dinov2': 'model.norm.',
    'dinov3': 'model.norm.',
    'beit-norm': 'model.norm.',
    'swin': 'model.norm.',
    'mmpretrain': 'model.ln1.',
    'mmpretrain-beit': 'model.ln1.',
    'mmpretrain-swin': 'model.norm1.',
}


def trained(trunk: str, settings: dict, **options) -> set[str]:
    own = backbone(trunk, {'type': 'Partial', **settings}, **options)
    names = {name for name, p in own.trunk.named_parameters() if p.requires_grad}
    loss(own(images(trunk))).backward()
    assert names == {name for name, p in own.trunk.named_parameters() if p.grad is not None}
    return names


def of_block(trunk: str, index: int) -> set[str]:
    own = backbone(trunk, 'Frozen').trunk
    of = {id(p) for p in own.blocks()[index].module.parameters()}
    return {name for name, p in own.named_parameters() if id(p) in of}


@pytest.mark.parametrize('trunk', sampled(TRUNKS, KINDS.__contains__))
def test_the_last_blocks(trunk: str) -> None:
    assert trained(trunk, {}) == of_block(trunk, -1)
    assert trained(trunk, {'k': 2}) == of_block(trunk, -1) | of_block(trunk, -2)


def test_the_last_that_run() -> None:
    assert trained('dinov2', {}, out_indices=[0]) == of_block('dinov2', 0)
    assert {name.split('.')[2] for name in trained('dinov2', {}, out_indices=[0])} == {'0'}


@pytest.mark.parametrize('trunk', FINAL)
def test_final_norm(trunk: str) -> None:
    more = trained(trunk, {'final_norm': True}) - trained(trunk, {})
    assert more == {f'{FINAL[trunk]}{name}' for name in ('weight', 'bias')}


@pytest.mark.parametrize(
    ('trunk', 'options'),
    [
        ('sam', {}),
        ('convnext', {}),
        ('dinov2', {'trunk_options': {'final_norm': False}}),
        ('swin', {'out_indices': [1]}),  # its norm is behind the last block only
    ],
)
def test_no_final_norm(trunk: str, options: dict) -> None:
    with pytest.raises(InvalidSettingError, match='no norm of its own between its last block'):
        backbone(trunk, {'type': 'Partial', 'final_norm': True}, **options)


def test_settings() -> None:
    assert Partial().settings() == {'type': 'Partial', 'k': 1, 'final_norm': False}


@pytest.mark.parametrize('k', [0, -1, 1.0, None, True])
def test_invalid_settings(k: object) -> None:
    with pytest.raises(InvalidSettingError, match=f'Partial k must be .*given: {k!r}'):
        Partial(k=k)


def test_more_blocks_than_run() -> None:
    with pytest.raises(InvalidSettingError, match='k=3, but this trunk runs 2 blocks'):
        backbone('dinov2', {'type': 'Partial', 'k': 3})
    with pytest.raises(InvalidSettingError, match='k=2, but this trunk runs 1 blocks'):
        backbone('dinov2', {'type': 'Partial', 'k': 2}, out_indices=[0])
