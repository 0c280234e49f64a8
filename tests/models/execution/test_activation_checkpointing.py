"""``with_cp``: blocks that the backward pass computes again, with the same gradients to the bit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmsigma.checkpoint.merge import merge
from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.execution.activation_checkpointing import checkpointed
from mmsigma.models.execution.activation_memory import activation_bytes
from mmsigma.models.tuners.injection import AdapterBank
from tests.tiny import TRUNKS, TUNERS, backbone, carries, images, loss, same, shake

# A trunk of every way to run blocks: plain, without prefix, rotary, shared biases, pooling in
# windows, merging patches, orders of mask units, whole blocks on maps and on tokens.
SPREAD = [
    'registers',
    'siglip',
    'eva-mixed',
    'beit',
    'swin',
    'swinv2',
    'hiera',
    'hieradet',
    'convnext',
    'parallel',
    'mmpretrain-beit-shared',
    'mmpretrain-swinv2-extra',
]
# Adapters that change tokens, share layers, sit inside the trunk, or train what is upstream's.
STATEFUL = ['SIGMA', 'VPT', 'Rein', 'VFMAdapter', 'HFPeft', 'SSF', 'BitFit', 'Full']
PAIRS = [(u, t) for t in SPREAD for u in ('SIGMA', 'VPT', 'Full') if carries(t, u)]
PAIRS += [(u, 'registers') for u in TUNERS if u not in ('SIGMA', 'VPT', 'Full')]
PAIRS += [(u, t) for t in ('swin', 'hieradet') for u in ('Rein', 'HFPeft', 'Partial')]


def pair(tuner: str, trunk: str, **options: Any) -> tuple[AdaptedBackbone, AdaptedBackbone]:
    """The same backbone with and without, trained values random, in training mode."""
    found = [backbone(trunk, tuner, with_cp=cp, **options).train() for cp in (False, True)]
    for own in found:
        shake(own)
    return found[0], found[1]


def run(own: AdaptedBackbone, given: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Maps and gradients of a step with dropout, from the same random state."""
    torch.manual_seed(4)
    maps = own(given)
    if any(m.requires_grad for m in maps):
        torch.rand(3)  # whoever draws in between must not matter
        loss(maps).backward()
    return maps, {name: p.grad for name, p in own.named_parameters() if p.grad is not None}


def check(first: AdaptedBackbone, second: AdaptedBackbone, given: Tensor) -> None:
    (maps, gradients), (again, recomputed_gradients) = run(first, given), run(second, given)
    assert same(maps, again)
    assert gradients.keys() == recomputed_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, recomputed_gradients[name]), name


@pytest.mark.parametrize(('tuner', 'trunk'), PAIRS)
def test_the_same_maps_and_gradients_to_the_bit(tuner: str, trunk: str) -> None:
    check(*pair(tuner, trunk), images(trunk))


@pytest.mark.parametrize('trunk', ['registers', 'beit', 'swin', 'hieradet', 'mmpretrain'])
def test_drop_path_and_dropout_draw_the_same_numbers(trunk: str) -> None:
    tuner: Any = {**TUNERS['SIGMA'], 'dropout': 0.5}
    config = TRUNKS[trunk].config
    args = {**config.get('model_args', {}), 'drop_path_rate': 0.5}
    options = {'mode': 'train', 'model_args': args}
    first, second = pair(tuner, trunk, trunk_options=options)
    given = images(trunk, batch=6)
    check(first, second, given)
    assert not same(first(given), first(given))  # they do draw


@pytest.mark.parametrize(
    ('tuner', 'trunk'),
    [*((u, 'registers') for u in STATEFUL), ('SIGMA', 'beit'), ('SIGMA', 'swin')],
)
def test_low_precision(tuner: str, trunk: str) -> None:
    """Autocast holds in the backward pass too, as does half precision of the trunk."""
    check(*pair(tuner, trunk, autocast='bfloat16'), images(trunk))
    if tuner not in ('BitFit', 'Full'):  # which train the trunk's own
        check(*pair(tuner, trunk, trunk_options={'dtype': 'float16'}), images(trunk))


def test_autocast_of_the_surroundings() -> None:
    first, second = pair('SIGMA', 'registers')
    with torch.autocast('cpu', torch.bfloat16):
        maps, again = first(images('registers')), second(images('registers'))
    loss(maps).backward()
    loss(again).backward()
    for one, other in zip(first.adapters.parameters(), second.adapters.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_gradients_of_the_images() -> None:
    first, second = pair('Frozen', 'swin')
    found = []
    for own in (first, second):
        given = images('swin').requires_grad_()
        loss(own(given)).backward()
        assert given.grad is not None
        found.append(given.grad)
    assert torch.equal(*found) and found[0].any()


@pytest.mark.parametrize('trunk', ['registers', 'swin', 'hiera', 'beit', 'convnext'])
@pytest.mark.parametrize('tuner', ['SIGMA', 'Full'])
def test_it_keeps_less(tuner: str, trunk: str) -> None:
    first, second = pair(tuner, trunk)
    given = images(trunk)
    assert activation_bytes(second, given) < 0.5 * activation_bytes(first, given)


def test_of_a_block_it_keeps_the_input_alone() -> None:
    own = backbone('registers', 'SIGMA', with_cp=True).train()
    tokens, state = own.trunk.embed(images('registers'))
    block = own.trunk.blocks()[0]
    tokens.requires_grad_()
    before = activation_bytes(lambda: backbone_without(own).run(0, block, tokens, state)[0])
    assert activation_bytes(lambda: own.adapters.run(0, block, tokens, state)[0]) < 1024 < before


def backbone_without(own: AdaptedBackbone) -> AdapterBank:
    return backbone('registers', own.tuner.settings()).adapters


def test_blocks_below_the_first_adapted_one_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    tuner = {**TUNERS['SIGMA'], 'blocks': [-1]}
    own = backbone('registers', tuner, with_cp=True).train()
    step = AdapterBank._run

    def counted(self: Any, index: int, *args: Any) -> Any:
        runs.append(index)
        return step(self, index, *args)

    monkeypatch.setattr(AdapterBank, '_run', counted)
    loss(own(images('registers'))).backward()
    assert runs == [0, 1, 1]
    with torch.no_grad():
        own(images('registers'))
    assert runs == [0, 1, 1, 0, 1]


@pytest.mark.parametrize('trunk', ['registers', 'convnext'])
def test_evaluation_is_as_without(trunk: str) -> None:
    first, second = pair('SIGMA', trunk)
    with torch.no_grad():
        assert same(first.eval()(images(trunk)), second.eval()(images(trunk)))
    assert not any(vars(m).get('forward') for m in second.modules())


def test_a_checkpoint_fits_with_and_without() -> None:
    first, second = pair('SIGMA', 'registers')
    shake(first, 7)
    assert first.record() == second.record()
    second.load_state_dict(first.state_dict())
    assert same(first(images('registers')), second(images('registers')))


def test_merging_leaves_it_on() -> None:
    assert merge(backbone('registers', 'LoRand', with_cp=True)).with_cp
    assert not merge(backbone('registers', 'LoRand')).with_cp


@pytest.mark.parametrize('given', ['yes', 1, None])
def test_it_is_true_or_false(given: Any) -> None:
    with pytest.raises(InvalidSettingError, match='with_cp is True or False'):
        backbone('registers', 'SIGMA', with_cp=given)


def test_batch_norms_move_once() -> None:
    def step(again: bool) -> tuple[nn.BatchNorm2d, Tensor]:
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(3)
        given = torch.randn(2, 3, 4, 4, requires_grad=True)
        out = checkpointed(norm, norm, given) if again else norm(given)
        out.pow(3).sum().backward()
        assert given.grad is not None
        return norm, given.grad

    (once, gradient), (twice, other) = step(False), step(True)
    assert torch.equal(gradient, other)
    assert all(torch.equal(a, b) for a, b in zip(once.buffers(), twice.buffers(), strict=True))
    assert twice.num_batches_tracked == 1
