"""The contract of every registered tuner, on every kind of trunk."""

import copy
import pickle
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner.checkpoint import (
    get_state_dict,
    load_checkpoint,
    load_state_dict,
    save_checkpoint,
)
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.tiny import CONTRACT, STATE, backbone, images, loss, same, shake

on_all = pytest.mark.parametrize(('tuner', 'trunk'), CONTRACT)
# What a tuner does to state dicts, modes and copies depends on its mechanism alone.
on_some = pytest.mark.parametrize(('tuner', 'trunk'), STATE)

# Methods whose adapted model is, by their authors' choice, another one before the first step.
STARTS_ELSEWHERE = {'SSF', 'VPT', 'LoRand', 'Mona', 'Rein'}
# What upstream calls norms in all the tiny trunks; the method goes by their types.
NORM = re.compile(
    r'(\b(norm\w*|ln\w*|\w+_ln|\w+_norm|\w*layernorm)'
    r'|\bstem\.1|stages\.\d\.downsample\.0)\.(weight|bias)$'
)

# And what it calls biases.
BIASES = ('bias', 'q_bias', 'v_bias', 'mlp_bias')


def of_last_blocks(name: str, own: AdaptedBackbone, k: int) -> bool:
    blocks = [block.module for block in own.trunk.blocks()[-k:]]
    parameter = own.trunk.get_parameter(name)
    return any(parameter is p for block in blocks for p in block.parameters())


# Which of the trunk's own parameters a method trains; the others train adapters only.
TRAINS_OF_TRUNK: dict[str, Callable[[str, AdaptedBackbone], bool]] = {
    'BitFit': lambda name, own: name.rpartition('.')[2] in BIASES,
    'Full': lambda name, own: True,
    'HFPeft': lambda name, own: '.lora_' in name,
    'NormTuning': lambda name, own: bool(NORM.search(name)),
    'Partial': lambda name, own: of_last_blocks(name, own, 1),
    'Partial-2-norm': lambda name, own: (
        of_last_blocks(name, own, 2) or name.startswith('model.norm.')
    ),
}


def trained(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


def kept(own: AdaptedBackbone) -> set[str]:
    """What a state dict of a backbone must hold."""
    return {f'adapters.{name}' for name in own.adapters.state_dict()} | trained(own)


class Model(nn.Module):
    """A backbone between siblings, some named like parts of it."""

    def __init__(self, own: AdaptedBackbone, seed: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Linear(3, 2)
        self.backbone_trunk = nn.BatchNorm1d(3)
        self.teacher = nn.ModuleDict({'backbone': nn.ModuleDict({'trunk': nn.Linear(2, 2)})})
        self.backbone = own
        self.neck = nn.Conv2d(3, 2, 1)
        self.backbone2 = nn.ModuleDict({'trunk': nn.Linear(2, 2)})

    def siblings(self) -> dict[str, Tensor]:
        return {
            f'{name}.{key}': value
            for name, child in self.named_children()
            if name != 'backbone'
            for key, value in child.state_dict().items()
        }


@on_all
def test_starts_as_the_frozen_model(tuner: str, trunk: str) -> None:
    with torch.no_grad():  # as upstream does, attention takes another path where a bias trains
        frozen = backbone(trunk, 'Frozen')(images(trunk))
        started = backbone(trunk, tuner)(images(trunk))
    if tuner == 'VPT' and 'post-norm' in trunk:
        return  # with these weights, attention of un-normed tokens sees one token alone
    assert same(started, frozen) == (tuner not in STARTS_ELSEWHERE)


@on_all
def test_what_trains_and_only_that(tuner: str, trunk: str) -> None:
    own = backbone(trunk, tuner)
    selects = TRAINS_OF_TRUNK.get(tuner, lambda name, own: False)
    assert trained(own.trunk) == {n for n, _ in own.trunk.named_parameters() if selects(n, own)}
    assert all(p.requires_grad for p in own.adapters.parameters())

    shake(own)
    maps = own(images(trunk))
    if trained(own):
        loss(maps).backward()
    else:
        assert not any(m.requires_grad for m in maps)
    reached = {n for n, p in own.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == trained(own)
    assert all(p.grad is None for p in own.parameters() if not p.requires_grad)


@on_all
def test_steps_leave_the_rest_of_the_trunk_alone(tuner: str, trunk: str) -> None:
    own = backbone(trunk, tuner).train()
    shake(own)
    before = {name: p.detach().clone() for name, p in own.named_parameters()}
    # As MMEngine builds it: over all parameters, the frozen ones included.
    optimizer = torch.optim.AdamW(own.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(2 if trained(own) else 0):
        optimizer.zero_grad()
        loss(own(images(trunk))).backward()
        optimizer.step()
    changed = {name for name, p in own.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trained(own)


@on_some
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_modes(tuner: str, trunk: str, mode: str) -> None:
    own = backbone(trunk, tuner, trunk_options={'mode': mode})
    trains = trained(own)
    for training in (True, False, True):
        assert (own.train() if training else own.eval()) is own
        assert own.training is training
        assert {m.training for m in own.trunk.modules()} == {training and mode == 'train'}
        assert {m.training for m in own.adapters.modules()} == {training}
        assert trained(own) == trains
    model = Model(own).eval().train()
    assert {m.training for m in model.backbone.trunk.modules()} == {mode == 'train'}


@on_some
@pytest.mark.parametrize('prefix', ['', 'model.backbone.'])
def test_state_dict_scope(tuner: str, trunk: str, prefix: str) -> None:
    own = backbone(trunk, tuner)
    expected = {f'{prefix}{name}' for name in {*kept(own), '_extra_state'}}
    whole: nn.Module = own
    if prefix:
        outer = prefix.removesuffix('backbone.')
        whole = Model(own)
        expected |= {f'{outer}{name}' for name in whole.siblings()}
        whole = nn.ModuleDict({'model': whole}) if outer else whole
    assert set(whole.state_dict()) == set(get_state_dict(whole)) == expected


def torch_strict(model: nn.Module, source: nn.Module, path: str) -> None:
    model.load_state_dict(source.state_dict(), strict=True)


def mmengine_strict(model: nn.Module, source: nn.Module, path: str) -> None:
    load_state_dict(model, get_state_dict(source), strict=True)


def mmengine_file(model: nn.Module, source: nn.Module, path: str) -> None:
    save_checkpoint({'state_dict': get_state_dict(source)}, path)
    load_checkpoint(model, path, strict=True)


def plain_tensors(model: nn.Module, source: nn.Module, path: str) -> None:
    torch.save(dict(source.state_dict()), path)
    model.load_state_dict(torch.load(path, weights_only=True), assign=True)


@pytest.mark.parametrize(
    ('tuner', 'trunk', 'transfer'),
    [
        *((*pair, mmengine_file) for pair in STATE),
        *(('BitFit', 'registers', way) for way in (torch_strict, mmengine_strict, plain_tensors)),
    ],
)
def test_round_trip(tuner: str, trunk: str, transfer: Callable, tmp_path) -> None:
    source = Model(backbone(trunk, tuner))
    shake(source)
    target = Model(backbone(trunk, tuner, seed=9), seed=9)
    trains = trained(target)
    transfer(target, source, str(tmp_path / 'model.pth'))
    assert same(target.backbone(images(trunk)), source.backbone(images(trunk)))
    siblings = source.siblings()
    assert all(torch.equal(value, siblings[key]) for key, value in target.siblings().items())
    assert trained(target) == trains


@pytest.mark.parametrize(
    ('tuner', 'trunk', 'update_buffers'),
    [*((*pair, True) for pair in STATE), ('SIGMA', 'registers', False)],
)
def test_ema(tuner: str, trunk: str, update_buffers: bool) -> None:
    def hooked(seed: int) -> tuple[EMAHook, SimpleNamespace]:
        model = Model(backbone(trunk, tuner, seed=seed), seed=seed)
        hook = EMAHook(momentum=0.25, update_buffers=update_buffers)
        run = SimpleNamespace(model=model, iter=0, epoch=0, _resume=True)
        hook.before_run(run)
        return hook, run

    def parameters(model: nn.Module) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    hook, run = hooked(seed=0)
    hook.after_train_iter(run, 0)
    first = parameters(run.model)
    shake(run.model)
    second = parameters(run.model)
    hook.after_train_iter(run, 0)
    average = {name: first[name].lerp(value, 0.25) for name, value in second.items()}

    hook.before_val_epoch(run)  # swaps the average in
    assert all(torch.equal(p, average[name]) for name, p in run.model.named_parameters())
    averaged_maps = run.model.backbone(images(trunk))
    hook.after_val_epoch(run)
    assert all(torch.equal(p, second[name]) for name, p in run.model.named_parameters())

    checkpoint = {'state_dict': run.model.state_dict()}
    hook.before_save_checkpoint(run, checkpoint)
    checkpoint = copy.deepcopy(checkpoint)
    assert {k.removeprefix('module.') for k in checkpoint['ema_state_dict']} == {
        *checkpoint['state_dict'],
        'steps',
    }
    # The file's own state is the average: that is what testing loads.
    deployed = Model(backbone(trunk, tuner, seed=7))
    deployed.load_state_dict(checkpoint['state_dict'])
    assert same(deployed.backbone(images(trunk)), averaged_maps)

    resumed, other = hooked(seed=8)
    resumed.after_load_checkpoint(other, checkpoint)
    other.model.load_state_dict(checkpoint['state_dict'])
    assert all(torch.equal(p, second[name]) for name, p in other.model.named_parameters())
    resumed.before_val_epoch(other)
    assert same(other.model.backbone(images(trunk)), averaged_maps)


@on_all
def test_autocast(tuner: str, trunk: str) -> None:
    own = backbone(trunk, tuner)
    shake(own)
    with torch.autocast('cpu', torch.bfloat16):
        maps = own(images(trunk))
    assert all(m.dtype == torch.float32 and m.isfinite().all() for m in maps)
    if trained(own):
        loss(maps).backward()
    for name, parameter in own.named_parameters():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), name
    with torch.no_grad():
        exact = own(images(trunk))
    for ours, reference in zip(maps, exact, strict=True):
        assert (ours - reference).norm() < 0.1 * reference.norm()


@on_all
def test_half_precision_trunk(tuner: str, trunk: str) -> None:
    own = backbone(trunk, tuner, trunk_options={'dtype': 'bfloat16'})
    if any(p.requires_grad for p in own.trunk.parameters()) and tuner != 'HFPeft':
        with pytest.raises(InvalidSettingError, match='of the trunk itself'):
            own.train()  # steps would be lost
        return
    own.train()
    shake(own)
    # peft's adapters are within the trunk; all that trains is in float32, wherever it is.
    for parameter in own.trunk.parameters():
        expected = torch.float32 if parameter.requires_grad else torch.bfloat16
        assert parameter.dtype == expected
    assert all(p.dtype == torch.float32 for p in own.adapters.parameters())
    maps = own(images(trunk))
    assert all(m.dtype == torch.float32 and m.isfinite().all() for m in maps)
    if trained(own):
        loss(maps).backward()
    for parameter in own.parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all()


@on_some
@pytest.mark.parametrize('copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(tuner: str, trunk: str, copied: Callable) -> None:
    own = backbone(trunk, tuner)
    shake(own)
    twin = copied(own)
    assert same(twin(images(trunk)), own(images(trunk)))
    assert trained(twin) == trained(own)
    assert set(twin.state_dict()) == set(own.state_dict())
    twin.load_state_dict(own.state_dict())
    # A copy runs its own tensors, not the original's.
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not same(twin(images(trunk)), own(images(trunk)))
