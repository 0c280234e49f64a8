"""Trunk weights stored in 8 bits: what differs from float32, what trains, what is refused."""

import copy
import pickle
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmsigma import dependencies
from mmsigma.checkpoint.merge import merge
from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.execution.activation_memory import activation_bytes
from mmsigma.models.trunks.int8 import Int8Linear
from tests.models.trunks.test_dtype import SPREAD as KINDS
from tests.models.trunks.test_dtype import stored
from tests.tiny import TUNERS, backbone, images, loss, same

pytest.importorskip('torchao')
SPREAD = [trunk for trunk in KINDS if trunk != 'convnext']  # whose layers are convolutions


def layers(own: AdaptedBackbone) -> dict[str, Int8Linear]:
    return {n: m for n, m in own.trunk.named_modules() if isinstance(m, Int8Linear)}


def in_float(own: AdaptedBackbone) -> AdaptedBackbone:
    """A copy whose Linear layers are PyTorch's, with the same rounded weights."""
    plain = copy.deepcopy(own)
    for name, layer in layers(plain).items():
        linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        linear.weight = nn.Parameter(layer.weight, requires_grad=False)
        linear.bias = layer.bias
        parent, _, own_name = name.rpartition('.')
        setattr(plain.trunk.get_submodule(parent), own_name, linear)
    return plain


def gradients(own: AdaptedBackbone, trunk: str) -> torch.Tensor:
    own.zero_grad()
    loss(own(images(trunk))).backward()
    return torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None])


@pytest.mark.parametrize('trunk', SPREAD)
def test_every_linear_layer_of_the_blocks_is_stored_so_and_nothing_else(trunk: str) -> None:
    own = stored('int8', trunk)
    found = set(layers(own).values())
    linears = {
        m
        for block in own.trunk.blocks()
        for m in block.module.modules()
        if isinstance(m, nn.Linear)
    }
    assert linears <= found and linears
    integers = {layer.values for layer in found}
    assert {p for p in own.trunk.parameters() if p.dtype == torch.int8} == integers
    assert {p.dtype for p in own.parameters()} == {torch.int8, torch.float32}
    # As many parameters as before: for counting, storage is no matter.
    assert sum(p.numel() for p in own.parameters()) == sum(
        p.numel() for p in stored('float32', trunk).parameters()
    )


@pytest.mark.parametrize('trunk', SPREAD)
def test_weights_are_rounded_to_half_a_step_of_each_output(trunk: str) -> None:
    whole, own = stored('float32', trunk).trunk, stored('int8', trunk)
    for name, layer in layers(own).items():
        weight = whole.get_submodule(name).weight
        step = weight.abs().amax(1, keepdim=True) / 127
        assert ((layer.weight - weight).abs() <= 0.5001 * step).all(), name


@torch.no_grad()
@pytest.mark.parametrize('trunk', SPREAD)
def test_maps_are_near_those_of_float64(trunk: str) -> None:
    given = images(trunk)
    reference = stored('float32', trunk).double()(given.double())
    for found, exact in zip(stored('int8', trunk)(given), reference, strict=True):
        assert found.dtype == torch.float32
        assert (found.double() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize('trunk', SPREAD)
@pytest.mark.parametrize('tuner', ['SIGMA', 'BitFit'])
def test_maps_and_gradients_are_those_of_the_rounded_weights(trunk: str, tuner: str) -> None:
    own = stored('int8', trunk, tuner).train()
    plain = in_float(own)
    for found, exact in zip(own(images(trunk)), plain(images(trunk)), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    found, exact = gradients(own, trunk), gradients(plain, trunk)
    assert (found - exact).norm() < 1e-5 * exact.norm()


# Tuners of every kind that leave the weights of Linear layers alone.
TRAINS = ['SIGMA', 'Mona', 'VPT', 'Rein', 'Convpass', 'VFMAdapter', 'SSF', 'HFPeft']
TRAINS += ['BitFit', 'NormTuning']


@pytest.mark.parametrize('autocast', [None, 'bfloat16', 'float16'])
@pytest.mark.parametrize('tuner', TRAINS)
def test_training(tuner: str, autocast: str | None) -> None:
    """Gradients are float32, and near those that a float32 trunk gives."""
    found = []
    for kind in ('int8', 'float32'):
        config = {**TUNERS[tuner], **({'dropout': 0.0} if tuner in ('VPT', 'Convpass') else {})}
        own = stored(kind, tuner=config, autocast=autocast if kind == 'int8' else None).train()
        trained = [p for p in own.parameters() if p.requires_grad]
        assert {p.dtype for p in trained} == {torch.float32}
        loss(own(images('registers'))).backward()
        found.append(torch.cat([p.grad.flatten() for p in trained]))  # type: ignore[union-attr]
    near, exact = found
    assert (near - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize('with_cp', [False, True])
def test_no_weight_in_floating_point_is_kept(with_cp: bool) -> None:
    """As much is kept as of a float32 trunk, besides its weights."""
    whole = stored('float32', with_cp=with_cp).train()
    own = stored('int8', with_cp=with_cp).train()
    assert activation_bytes(own, images('registers')) == activation_bytes(
        whole, images('registers')
    )


@pytest.mark.parametrize('tuner', ['SIGMA', 'BitFit', 'HFPeft'])
@pytest.mark.parametrize('trunk', ['registers', 'swin'])
def test_checkpoints_fit_a_float32_trunk_and_back(trunk: str, tuner: str) -> None:
    whole, own = stored('float32', trunk, tuner), stored('int8', trunk, tuner)
    assert own.record() == whole.record()
    assert {n: v.shape for n, v in own.state_dict().items()} == {
        n: v.shape for n, v in whole.state_dict().items()
    }
    fresh = backbone(trunk, tuner, seed=5, trunk_options={'dtype': 'int8'})
    fresh.load_state_dict(whole.state_dict())
    assert same(fresh(images(trunk)), own(images(trunk)))
    back = backbone(trunk, tuner, seed=5)
    back.load_state_dict(fresh.state_dict())
    assert same(back(images(trunk)), whole(images(trunk)))


def test_copies() -> None:
    own = stored('int8')
    for other in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert same(other(images('registers')), own(images('registers')))


@torch.no_grad()
@pytest.mark.parametrize('update_buffers', [False, True])
def test_moving_averages(update_buffers: bool) -> None:
    own = stored('int8')
    average = ExponentialMovingAverage(own, momentum=0.5, update_buffers=update_buffers)
    for _ in range(2):
        average.update_parameters(own)
    assert same(average(images('registers')), own(images('registers')))


@pytest.mark.parametrize('tuner', ['Full', 'Partial'])
def test_what_trains_is_not_stored_so(tuner: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        stored('int8', tuner=tuner)
    for part in (f'{tuner}, which trains', 'attn.qkv', "trunk.dtype='int8'", 'Leave'):
        assert part in str(caught.value)


def test_a_trunk_without_linear_layers() -> None:
    with pytest.raises(InvalidSettingError, match=r'this ConvNeXt.* has none. Take bfloat16'):
        stored('int8', 'convnext')


def test_peft_changes_no_integers() -> None:
    config = {**TUNERS['HFPeft'], 'init_lora_weights': 'pissa'}
    with pytest.raises(InvalidSettingError, match=r"'pissa' changes.*trunk.dtype='int8'"):
        stored('int8', tuner=config)
    stored('int8', tuner={**config, 'init_lora_weights': 'gaussian'})


@pytest.mark.parametrize('options', [{'use_dora': True}, {'use_rslora': True}])
def test_peft_may_read_them(options: dict[str, Any]) -> None:
    config = {**TUNERS['HFPeft'], **options}
    own = stored('int8', tuner=config).train()
    plain = in_float(own)
    torch.testing.assert_close(
        gradients(own, 'registers'), gradients(plain, 'registers'), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize('tuner', ['SIGMA', 'HFPeft', 'SSF'])
def test_merging_is_refused(tuner: str) -> None:
    with pytest.raises(InvalidSettingError, match=r'Merging needs .* Leave trunk.dtype out'):
        merge(stored('int8', tuner=tuner))


def test_counting_without_values() -> None:
    with torch.device('meta'):
        own = backbone('registers', trunk_options={'dtype': 'int8', 'weights': 'random'})
    assert own.trunk.fingerprint == 'meta'
    assert {layer.values.dtype for layer in layers(own).values()} == {torch.int8}


@pytest.mark.parametrize(('version', 'there'), [(None, 'is not installed'), ('0.9.0', 'is 0.9.0')])
def test_torchao_is_missing_or_old(
    monkeypatch: pytest.MonkeyPatch, version: str | None, there: str
) -> None:
    monkeypatch.setattr(dependencies, 'installed', lambda names: version)
    with pytest.raises(ImportError) as caught:
        stored('int8')
    for part in ("trunk.dtype='int8' needs torchao >= 0.17", there, "'mmsigma[int8]'"):
        assert part in str(caught.value)
