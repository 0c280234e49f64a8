"""Backbones on one trunk, called together: the same maps, and every shared block run once."""

from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from torch import nn

from mmsigma.apis.shared_forward import shared_blocks, shared_forward
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.tuners.injection import AdapterBank
from mmsigma.registry import TRUNKS as TRUNK_REGISTRY
from mmsigma.registry import build
from tests.sample import sampled
from tests.tiny import KINDS, TUNERS, carries, images, same, shake, sigma, trunk_config
from tests.tiny_trunks import TRUNKS

FROZEN = {'type': 'Frozen'}


def shared(
    trunk: str, tuners: Iterable[tuple[dict, list[int] | None]], **options
) -> list[AdaptedBackbone]:
    """Backbones with these tuners and outputs on one tiny trunk, all adapters at random values."""
    own = build(TRUNK_REGISTRY, trunk_config(trunk, **options)).requires_grad_(False)
    backbones = []
    for seed, (tuner, outputs) in enumerate(tuners):
        backbones.append(AdaptedBackbone(own, dict(tuner), outputs).eval())
        shake(backbones[-1].adapters, seed)
    return backbones


def deep(tuners: Iterable[tuple[dict, list[int] | None]]) -> list[AdaptedBackbone]:
    """The same on a plain trunk of six blocks."""
    args = {**TRUNKS['dinov2'].config['model_args'], 'depth': 6}
    return shared('dinov2', tuners, weights='random', model_args=args)


@pytest.fixture
def calls(monkeypatch) -> Counter:
    """How often blocks run, by index."""
    counted: Counter = Counter()
    run = AdapterBank.run

    def counting(self, index, *args):
        counted[index] += 1
        return run(self, index, *args)

    monkeypatch.setattr(AdapterBank, 'run', counting)
    return counted


@pytest.mark.parametrize('trunk', sampled(TRUNKS, KINDS.__contains__))
def test_maps_are_those_of_each_alone(trunk: str) -> None:
    tuners = [
        (FROZEN, None),
        (sigma(blocks=[-1]), None),
        (sigma(), None),
        *((TUNERS[t], None) for t in ('VPT', 'Mona') if carries(trunk, t)),
        (FROZEN, None),
    ]
    backbones = shared(trunk, tuners)
    tiny = TRUNKS[trunk]
    side = 4 * (tiny.multiple or tiny.patch)
    fixed = tiny.config['type'] == 'TimmGeneric'
    x = images(trunk, side, side) if fixed else images(trunk, side + 5, 2 * side - 3)
    with torch.no_grad():
        alone = [backbone(x) for backbone in backbones]
    for order in (backbones, backbones[::-1]):
        with shared_forward(backbones):
            found = {id(backbone): backbone(x) for backbone in order}
        for backbone, maps in zip(backbones, alone, strict=True):
            assert same(found[id(backbone)], maps)


def test_each_shared_block_runs_once(calls: Counter) -> None:
    tuners = [
        (sigma(), [5]),  # all its own
        (FROZEN, [1, 5]),  # nothing of its own
        (sigma(blocks=[-1, -2]), [0, 3, 5]),
        (sigma(blocks=[2]), [1, 2, 3]),
        (TUNERS['VPT'], None),
    ]
    backbones = deep(tuners)
    assert [shared_blocks(b) for b in backbones] == [0, 6, 4, 2, 0]
    x = images('dinov2', 61, 45)
    with torch.no_grad():
        alone = [b(x) for b in backbones]
    assert calls == Counter({0: 5, 1: 5, 2: 5, 3: 5, 4: 4, 5: 4})
    for order in ([0, 1, 2, 3, 4], [1, 4, 3, 2, 0], [2, 0, 1, 4, 3]):
        calls.clear()
        with shared_forward(backbones):
            for i in order:
                assert same(backbones[i](x), alone[i])
        # The trunk once, and from their first adapter on the two that adapt all, 4..5 and 2..3.
        assert calls == Counter({0: 3, 1: 3, 2: 4, 3: 4, 4: 4, 5: 4})


def test_only_equal_images_are_shared(calls: Counter) -> None:
    backbones = deep([(FROZEN, [5]), (FROZEN, [2, 5])])
    x = images()
    near = x.clone()
    near[0, 0, 0, 0] += 1e-6
    others = [near, x[:1], x.double(), images('dinov2', 42, 56)]
    with shared_forward(backbones), torch.autocast('cpu', torch.bfloat16):
        half = backbones[0](x)
    calls.clear()
    with shared_forward(backbones):
        backbones[0](x)
        backbones[1](x.clone())
        assert calls[0] == 1
        for given in others[:2] + others[3:]:
            backbones[0](given)
        assert calls[0] == 4
        with torch.autocast('cpu', torch.bfloat16):
            assert same(backbones[0](x), half)
        assert calls[0] == 5
        with shared_forward(backbones):  # the same pass
            backbones[1](x)
        backbones[1](x)
        assert calls[0] == 5
    backbones[0](x)
    assert calls[0] == 6
    with shared_forward(backbones):
        backbones[0](x)
    assert calls[0] == 7


def test_no_gradient_and_nothing_left_behind() -> None:
    backbones = deep([(sigma(), None), (FROZEN, None)])
    trunk = backbones[0].trunk
    with pytest.raises(KeyError), shared_forward(backbones):
        assert not any(m.requires_grad for m in backbones[0](images()))
        raise KeyError
    assert 'maps' not in vars(trunk)
    assert all(m.requires_grad for m in backbones[0](images()))
    with shared_forward([]):
        pass


def test_a_trunk_that_runs_whole_shares_nothing(monkeypatch) -> None:
    backbones = shared('convnext', [(FROZEN, None), (sigma(blocks=[-1]), None)])
    model: nn.Module = backbones[0].trunk.model
    forward, seen = model.forward_intermediates, []
    monkeypatch.setattr(
        model, 'forward_intermediates', lambda *a, **k: seen.append(1) or forward(*a, **k)
    )
    with shared_forward(backbones):
        for backbone in backbones:
            backbone(images('convnext'))
    assert len(seen) == 2
