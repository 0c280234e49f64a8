"""Passes from CUDA graphs: the same maps and gradients, whatever comes in which order."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.tiny import TUNERS, backbone, images, same, shake, sigma

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch finds no GPU')
SIZES = [(56, 70), (42, 42), (61, 47)]
FORMS: dict[str, dict[str, Any]] = {
    'float32': {},
    'autocast': {'autocast': 'bfloat16'},
    'half': {'autocast': 'bfloat16', 'trunk_options': {'dtype': 'bfloat16'}},
}


def pair(tuner: Any = 'SIGMA', **options: Any) -> tuple[AdaptedBackbone, AdaptedBackbone]:
    """The same backbone with and without graphs, in training."""
    made = []
    for graphs in (True, False):
        own = backbone('registers', tuner, cuda_graphs=graphs, **options)
        shake(own)
        made.append(own.cuda().train())
    return made[0], made[1]


def given(height: int, width: int, seed: int = 1) -> Tensor:
    generator = torch.Generator('cuda').manual_seed(seed)
    return torch.randn(2, 3, height, width, generator=generator, device='cuda')


def step(own: AdaptedBackbone, x: Tensor) -> list[Tensor]:
    """Maps of a training step that leaves its gradients."""
    maps = own(x)
    sum((m.float() ** 2).mean() for m in maps).backward()
    return [m.detach().clone() for m in maps]


def gradients(own: AdaptedBackbone) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in own.named_parameters() if p.grad is not None}


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@GPU
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('tuner', ['SIGMA', 'Mona', 'VPT', 'HFPeft', 'Full', 'BitFit', 'Frozen'])
def test_maps_and_gradients_are_those_without(tuner: str, form: str) -> None:
    if form == 'half' and tuner in ('Full', 'BitFit'):
        pytest.skip('trains the trunk')
    config = {**TUNERS[tuner], **({'dropout': 0.0} if tuner in ('Mona', 'VPT') else {})}
    ours, theirs = pair(config, **FORMS[form])
    for turn in range(2):  # the second replays what the first recorded
        for number, size in enumerate(SIZES):
            x = given(*size, seed=10 * turn + number)
            for own in (ours, theirs):
                own.zero_grad(set_to_none=True)
            if tuner == 'Frozen':
                close(ours(x), theirs(x))
                continue
            close(step(ours, x), step(theirs, x))
            close(gradients(ours), gradients(theirs))
    assert ours.graphs is not None and len(ours.graphs._recorded) == len(SIZES)


@GPU
def test_gradients_add_up_over_passes_of_several_sizes() -> None:
    ours, theirs = pair()
    for own in (ours, theirs):
        for turn in range(2):
            own.zero_grad(set_to_none=True)
            for number, size in enumerate([*SIZES, *SIZES]):
                step(own, given(*size, seed=10 * turn + number))
    close(gradients(ours), gradients(theirs))


@GPU
def test_a_pass_before_the_backward_pass_of_the_last_one() -> None:
    ours, theirs = pair()
    first, second = given(56, 70), given(56, 70, seed=2)
    step(ours, first)
    for own in (ours, theirs):
        own.zero_grad(set_to_none=True)
        kept = own(first), own(second)
        sum((m**2).mean() for maps in kept for m in maps).backward()
    close(gradients(ours), gradients(theirs))
    ours(first)  # dropped, without a backward pass
    ours.zero_grad(), theirs.zero_grad()
    close(step(ours, second), step(theirs, second))
    close(gradients(ours), gradients(theirs))


@GPU
def test_evaluation_gives_maps_of_their_own_and_follows_the_weights() -> None:
    ours, theirs = pair()
    ours.eval(), theirs.eval()
    first, second = given(56, 70), given(56, 70, seed=2)
    with torch.no_grad():
        before = ours(first)
        ours(second)
        close(before, theirs(first))
        for own in (ours, theirs):
            shake(own, 5)
        close(ours(first), theirs(first))
    with torch.autocast('cuda', torch.bfloat16), torch.no_grad():
        close(ours(first), theirs(first))
    ours.train(), theirs.train()
    close(step(ours, first), step(theirs, first))


@GPU
def test_moves_and_copies_record_anew() -> None:
    ours, theirs = pair()
    x = given(56, 70)
    step(ours, x)
    close(step(copy.deepcopy(ours), x), step(theirs, x))
    assert same(ours.cpu().eval()(x.cpu()), theirs.cpu().eval()(x.cpu()))
    ours.cuda().train(), theirs.cuda().train()
    close(step(ours, x), step(theirs, x))


def test_on_a_cpu_there_are_none() -> None:
    ours, theirs = backbone(cuda_graphs=True), backbone()
    assert same(ours(images()), theirs(images()))
    assert ours.record() == theirs.record()


def test_refusals() -> None:
    with pytest.raises(InvalidSettingError, match='cuda_graphs is True or False; given: 2'):
        backbone(cuda_graphs=2)
    with pytest.raises(InvalidSettingError, match='with_cp and cuda_graphs exclude each other'):
        backbone('dinov2', sigma(), with_cp=True, cuda_graphs=True)
