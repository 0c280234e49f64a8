"""What is kept for the backward pass: nothing that no gradient needs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.execution.activation_memory import activation_bytes
from tests.tiny import TRUNKS, TUNERS, backbone, carries, images

SPREAD = ['registers', 'dinov3', 'beit', 'swin', 'hiera', 'hieradet', 'convnext']
SPREAD += ['mmpretrain', 'mmpretrain-swin']


def saved(function: Callable[..., Any], *args: Any, but: nn.Module | None = None) -> list[Tensor]:
    """Tensors that autograd saves in ``function``, each storage once, besides a module's own."""
    found: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = function(*args)
    del out
    own = [] if but is None else [*but.parameters(), *but.buffers()]
    for tensor in own:
        found.pop(tensor.untyped_storage().data_ptr(), None)
    return list(found.values())


class Seen(nn.Module):
    """Notes whether autograd was on when a block ran."""

    def __init__(self, own: AdaptedBackbone) -> None:
        super().__init__()
        self.on: list[bool] = []
        for module in own.trunk.modules():
            module.register_forward_hook(lambda *_: self.on.append(torch.is_grad_enabled()))


@pytest.mark.parametrize('trunk', SPREAD)
def test_frozen_keeps_nothing(trunk: str) -> None:
    own, given = backbone(trunk, 'Frozen').train(), images(trunk)
    assert not saved(own, given)
    assert not any(m.requires_grad for m in own(given))
    own(given)  # what is prepared once for an image size is there now
    assert activation_bytes(own, given) == 0
    seen = Seen(own)
    own(given)
    assert seen.on and not any(seen.on)
    own(given.clone().requires_grad_())  # whoever asks for it gets a gradient
    assert seen.on[-1]


@pytest.mark.parametrize(
    ('tuner', 'trunk'),
    [(u, t) for t in SPREAD for u in ('SIGMA', 'Mona', 'Partial') if carries(t, u)],
)
def test_nothing_is_kept_below_the_first_adapted_block(tuner: str, trunk: str) -> None:
    config: dict[str, Any] = dict(TUNERS[tuner])
    if tuner == 'SIGMA':
        config['blocks'] = [-1]
    own = backbone(trunk, config, out_indices=[TRUNKS[trunk].depth - 1])
    if tuner == 'Mona':  # which has no setting for that
        for index in list(own.adapters.at)[:-1]:
            del own.adapters.at[index]
    blocks = own.trunk.blocks()
    modules = [module for block in blocks[:-1] for module in block.module.modules()]
    differentiated: list[bool] = []
    for module in modules:
        module.register_forward_hook(
            lambda *given: differentiated.append(_graph(given[2]))  # module, inputs, output
        )
    maps = own(images(trunk))
    assert maps[0].requires_grad and differentiated and not any(differentiated)
    frozen = [p for block in blocks[:-1] for p in block.module.parameters()]
    held = {t.untyped_storage().data_ptr() for t in saved(own, images(trunk))}
    assert not held & {p.untyped_storage().data_ptr() for p in frozen}


def _graph(output: Any) -> bool:
    found = output if isinstance(output, tuple) else (output,)
    return any(isinstance(t, Tensor) and t.requires_grad for t in found)


def shapes(module: Any, given: Tensor) -> list[tuple[int, ...]]:
    own = module if isinstance(module, nn.Module) else None
    return sorted(tuple(t.shape) for t in saved(module, given, but=own))


def test_what_frozen_layers_keep() -> None:
    """The table of docs/precision.md."""
    given = torch.randn(1, 10, 8, requires_grad=True)
    scale = torch.randn(8)
    x, row = (1, 10, 8), (1, 10, 1)
    table: list[tuple[Any, list[tuple[int, ...]]]] = [
        (nn.Linear(8, 24), []),
        (lambda t: t * scale, [(8,)]),
        (lambda t: t + t, []),
        (nn.Dropout(0.5).eval(), []),
        (nn.LayerNorm(8), [row, row, x]),
        (nn.RMSNorm(8), [row, x]),
        (nn.GELU(), [x]),
        (nn.SiLU(), [x]),
        (nn.Conv1d(10, 10, 1), [x]),  # in vain: PyTorch's operator saves it for the weight
    ]
    for layer, expected in table:
        if isinstance(layer, nn.Module):
            layer.requires_grad_(False)
        assert shapes(layer, given) == expected, layer


def test_what_a_frozen_block_keeps() -> None:
    """Ten tensors as wide as the stream: x, q, k, v, the attended, y, and four in the MLP."""
    own = backbone('siglip', 'Frozen')
    block = own.trunk.blocks()[0]
    tokens, state = own.trunk.embed(images('siglip'))
    tokens.requires_grad_()

    def run() -> Tensor:
        return own.adapters.run(0, block, tokens, state)[0]

    wide = tokens.numel() * 4
    # Statistics of two norms, and one number for each token and head.
    narrow = tokens[..., 0].numel() * 4 * (2 * 2 + 2)
    assert sum(t.untyped_storage().nbytes() for t in saved(run, but=own)) == 10 * wide + narrow
    own.trunk.requires_grad_(True)
    # And the inputs of layers with weights that train: two normed ones, and the activated four.
    assert sum(t.untyped_storage().nbytes() for t in saved(run, but=own)) == 16 * wide + narrow


def test_low_precision_keeps_no_copies_of_weights() -> None:
    """Autocast casts a float32 weight anew for each step and keeps it; a bfloat16 one stays."""
    found, linears = {}, 0
    for dtype in ('float32', 'bfloat16'):
        own = backbone('siglip', 'SIGMA', autocast='bfloat16', trunk_options={'dtype': dtype})
        block = own.trunk.blocks()[1].module
        linears = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
        found[dtype] = activation_bytes(own, images('siglip'))
    assert found['float32'] - found['bfloat16'] >= 2 * linears
