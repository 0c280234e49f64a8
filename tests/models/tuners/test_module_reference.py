"""Modules that adapters use without owning them: the trunk's norms, and what adapters share."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.block import Block, residual
from mmsigma.models.tuners.injection import AdapterBank, InjectionContext, ModuleReference


class Adapter(nn.Module):
    """Holds a module of its own and a borrowed one."""

    def __init__(self, borrowed: ModuleReference) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.borrowed = borrowed


def context(norms: tuple[nn.Module, nn.Module] | None) -> InjectionContext:
    block = Block(nn.Identity(), 2, residual(nn.Identity()), lambda y, _: y, norms=norms)
    return InjectionContext(nn.Identity(), [block], False, AdapterBank())


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_the_whole_keep_the_tie(copied) -> None:
    lent = nn.Linear(2, 2)
    model = nn.ModuleDict({'lender': lent, 'adapter': Adapter(ModuleReference(lent))})
    assert [name for name, _ in model.named_parameters() if 'borrowed' in name] == []
    twin = copied(model)
    assert twin['adapter'].borrowed.module is twin['lender'] is not lent


def test_computes_in_the_module_s_dtype() -> None:
    half, tokens = nn.Linear(2, 2).bfloat16(), torch.randn(1, 3, 2)
    assert torch.equal(ModuleReference(half)(tokens), half(tokens.bfloat16()).float())
    plain = nn.Linear(2, 2)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(ModuleReference(plain)(tokens), plain(tokens))
        assert ModuleReference(plain)(tokens).dtype == torch.bfloat16
    assert torch.equal(ModuleReference(nn.Identity())(tokens), tokens)


def test_shared_modules_are_registered_once() -> None:
    place = context(None)
    lent = place.share('projection', nn.Linear(2, 2))
    for _ in range(2):
        place.put(0, 'after_block', Adapter(lent))
        place.put(0, 'after_mlp', Adapter(lent))
    names = list(place.adapters.state_dict())
    assert sum(name.startswith('shared.projection.') for name in names) == 2
    assert len(names) == 6
    assert place.adapters.shared['projection'] is lent.module


def test_norms_of_the_branches() -> None:
    first, second = nn.LayerNorm(2), nn.LayerNorm(2)
    place = context((first, second))
    assert place.norm(0, 'parallel_attention').module is first
    assert place.norm(0, 'parallel_mlp').module is second


def test_no_norm_to_read() -> None:
    with pytest.raises(InvalidSettingError) as caught:
        context(None).norm(0, 'parallel_mlp')
    assert all(part in str(caught.value) for part in ('Block 0', 'Identity', "'parallel_mlp'"))
