"""``compile``: blocks through torch.compile, one graph for all of a kind, the same gradients.

A backend that runs each graph as it was captured stands for inductor: what is tested here is what
is captured, and how often. Compiled in earnest once, marked slow.
"""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.tuners.injection import run_block
from tests.tiny import TRUNKS, backbone, images, loss, same, shake

GRAPHS: list[torch.fx.GraphModule] = []


def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """A backend that compiles nothing."""
    GRAPHS.append(graph)
    return graph.forward


CAPTURED: dict[str, Any] = dict(backend=counting)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()
    GRAPHS.clear()


def pair(
    tuner: str,
    trunk: str = 'registers',
    depth: int = 2,
    compile: bool | dict[str, Any] = CAPTURED,
    **options: Any,
) -> tuple[AdaptedBackbone, AdaptedBackbone]:
    """The same backbone as it is and compiled, trained values random, in training mode."""
    if depth != 2:
        args = {**TRUNKS[trunk].config.get('model_args', {}), 'depth': depth}
        options['trunk_options'] = dict(model_args=args, weights='random')
    found = [backbone(trunk, tuner, compile=c, **options).train() for c in (False, compile)]
    for own in found:
        shake(own)
    return found[0], found[1]


def run(own: nn.Module, given: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Maps and gradients of a step, from the same random state."""
    own.zero_grad()
    torch.manual_seed(4)
    maps = own(given)
    if any(m.requires_grad for m in maps):
        loss(maps).backward()
    return maps, {name: p.grad for name, p in own.named_parameters() if p.grad is not None}


def check(own: nn.Module, other: nn.Module, given: Tensor, tolerance: float = 0.0) -> None:
    """Values and gradients agree, relative to the largest of each tensor."""
    (maps, gradients), (compiled, found) = run(own, given), run(other, given)
    assert gradients.keys() == found.keys()
    pairs = [*zip(maps, compiled, strict=True), *((g, found[n]) for n, g in gradients.items())]
    for one, two in pairs:
        assert (one - two).abs().max() <= tolerance * one.abs().max()


def sizes(trunk: str, *tokens: tuple[int, int], batch: int = 2) -> list[Tensor]:
    patch = TRUNKS[trunk].patch
    return [images(trunk, h * patch, w * patch, batch) for h, w in tokens]


@pytest.mark.slow
@pytest.mark.parametrize('tuner', ['SIGMA', 'VPT', 'HFPeft', 'SSF', 'BitFit'])
def test_one_graph_for_all_blocks_and_sizes(tuner: str) -> None:
    """What gradients begin in is a kind of its own, and so is the first block with VPT."""
    own, other = pair(tuner, depth=4)
    for given in sizes('registers', (4, 4), (5, 3), (6, 7)):
        check(own, other, given)
        assert len(GRAPHS) <= 2
    assert GRAPHS
    trained = len(GRAPHS)
    own.eval(), other.eval()
    with torch.no_grad():
        for given in sizes('registers', (4, 4), (5, 3), (6, 7)):
            check(own, other, given)
    assert len(GRAPHS) <= 2 * trained


# Capturing a block with windows takes PyTorch 15 to 40 seconds, nearly all of it in sympy.
FIRST = {
    'eva-mixed': [(8, 12), (16, 12), (16, 32), (10, 14)],
    'mmpretrain-beit': [(8, 12), (16, 12), (16, 32), (10, 14)],
    'hieradet': [(16, 12), (10, 14)],  # maps that whole windows cover in a direction, or in none
    'swin': [(10, 14)],
}


@pytest.mark.slow
@pytest.mark.parametrize('trunk', FIRST)
def test_other_trunks(trunk: str) -> None:
    """Stages of other widths and blocks of other windows are kinds of their own."""
    options: dict[str, Any] = {}
    if trunk == 'swin':  # one stage, of a block with windows and one with shifted windows
        args = {**TRUNKS[trunk].config['model_args'], 'depths': (2,), 'num_heads': (2,)}
        options['trunk_options'] = dict(model_args=args, weights='random')
    own, other = pair('SIGMA', trunk, **options)
    for given in sizes(trunk, *FIRST[trunk]):
        check(own, other, given)
    before = len(GRAPHS)
    assert before >= 2
    for given in sizes(trunk, (9, 13), (15, 11)):
        check(own, other, given)
    assert len(GRAPHS) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        dict(with_cp=True),
        dict(autocast='bfloat16'),
        dict(autocast='bfloat16', with_cp=True, trunk_options=dict(dtype='bfloat16')),
    ],
    ids=lambda options: '-'.join(options),
)
def test_with_memory_and_precision(options: dict[str, Any]) -> None:
    own, other = pair('SIGMA', **options)
    check(own, other, images('registers'))
    assert GRAPHS


def test_dropout_and_drop_path_draw_the_same_numbers() -> None:
    args = {**TRUNKS['registers'].config.get('model_args', {}), 'drop_path_rate': 0.5}
    given = images('registers', batch=6)
    options: dict[str, Any] = dict(trunk_options=dict(mode='train', model_args=args))
    own, other = pair('VPT', with_cp=True, **options)
    check(own, other, given)


@pytest.mark.slow
def test_checkpoints_copies_and_pickles() -> None:
    """State dicts are those without it; copies and what was pickled compile anew."""
    own, other = pair('SIGMA')
    check(own, other, images('registers'))
    assert own.state_dict().keys() == other.state_dict().keys()
    other.load_state_dict(own.state_dict())
    assert other.record() == own.record()
    assert copy.deepcopy(other.adapters.compiled).options == CAPTURED
    again = pickle.loads(pickle.dumps(other.adapters.compiled))
    assert again.options == CAPTURED and again.function is run_block
    GRAPHS.clear()
    check(own, copy.deepcopy(other), images('registers'))
    assert GRAPHS


def test_models_do_not_use_up_each_others_graphs() -> None:
    for _ in range(2):
        own, other = pair('Frozen')
        check(own, other, images('registers'))
    assert len(GRAPHS) == 2


def test_in_ddp(tmp_path: Path) -> None:
    """Its optimiser of graphs would cut them where buckets end."""
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        own, other = pair('Full')
        wrapped = nn.parallel.DistributedDataParallel(other, bucket_cap_mb=0.01)
        maps, gradients = run(own, images('registers'))
        compiled, found = run(wrapped, images('registers'))
        assert same(maps, compiled)
        assert all(torch.equal(g, found[f'module.{n}']) for n, g in gradients.items())
        assert len(GRAPHS) == 1
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('trunk', 'setting', 'error', 'words'),
    [
        ('registers', 'yes', InvalidSettingError, 'True, False or a dict'),
        ('registers', dict(mod='default'), UnknownNameError, "Did you mean 'mode'"),
        ('registers', dict(mode='fastest'), InvalidSettingError, 'fastest'),
        ('registers', dict(backend='tvn'), InvalidSettingError, 'tvn'),
        ('registers', dict(mode='reduce-overhead'), InvalidSettingError, 'CUDA graphs'),
        ('convnext', True, InvalidSettingError, 'runs whole'),
        ('mmpretrain-eva02', True, InvalidSettingError, 'compiled anew for each'),
    ],
)
def test_refused(trunk: str, setting: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        backbone(trunk, 'SIGMA', compile=setting)


@pytest.mark.slow
@pytest.mark.parametrize('tuner', ['SIGMA', 'VPT'])
def test_inductor(tuner: str) -> None:
    own, other = pair(tuner, compile=True)
    own.eval(), other.eval()  # dropout draws numbers of its own there
    for given in sizes('registers', (4, 4), (5, 3)):
        check(own, other, given, tolerance=2e-5)
    before = counters['stats']['unique_graphs']
    check(own, other, *sizes('registers', (6, 7)), tolerance=2e-5)
    assert counters['stats']['unique_graphs'] == before
