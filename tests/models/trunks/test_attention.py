"""Fused attention everywhere, but where upstream's is plain and maps shall be its to the bit."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import TRUNKS, backbone, images

# The list of docs/precision.md: softmax written out, or SDPA of other than four axes (timm's Hiera
# in windows, and its SAM), which PyTorch has no kernel for.
PLAIN = {'hiera', 'hiera-abswin', 'sam'}
PLAIN |= {'mmpretrain-beit', 'mmpretrain-beit-shared', 'mmpretrain-eva', 'mmpretrain-eva02'}
PLAIN |= {'mmpretrain-sam'}
SWINS = {name for name in TRUNKS if 'Swin' in TRUNKS[name].config['type']}


class Operators(TorchDispatchMode):
    """Notes what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def softmax_runs(trunk: str, tuner: Any) -> bool:
    own, given = backbone(trunk, tuner), images(trunk)
    with torch.no_grad(), Operators() as seen:
        own(given)
    return any('softmax' in name for name in seen.names)


@pytest.mark.parametrize('trunk', TRUNKS)
def test_fused(trunk: str) -> None:
    assert softmax_runs(trunk, 'Frozen') == (trunk in PLAIN | SWINS)


@pytest.mark.parametrize('trunk', sorted(SWINS))
def test_with_prompts_in_the_windows(trunk: str) -> None:
    """Which no upstream has: this attention is ours."""
    assert not softmax_runs(trunk, 'VPT')
