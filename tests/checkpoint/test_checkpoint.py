"""What checkpoints refuse, and what they let pass."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmsigma.checkpoint import record as checkpoint_record
from mmsigma.errors import CheckpointMismatchError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.sample import sampled
from tests.tiny import KINDS, TRUNKS, TUNERS, backbone, images, same, shake, sigma

RECORD = '_extra_state'
RANDOM = {'weights': 'random'}


def torch_load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    model.load_state_dict(state)


def torch_lenient(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    model.load_state_dict(state, strict=False)


def mmengine_lenient(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    load_state_dict(model, state, strict=False)


LOADS = pytest.mark.parametrize('load', [torch_load, torch_lenient, mmengine_lenient])


def saved(**arguments: Any) -> dict[str, Tensor]:
    own = backbone(**arguments)
    shake(own)
    return own.state_dict()


def refuse(own: AdaptedBackbone, state: dict[str, Tensor], load: Callable = torch_load) -> str:
    """The message with which loading fails; nothing may have changed by then."""
    before = {name: value.clone() for name, value in own.trunk.state_dict().items()}
    before |= {name: value.clone() for name, value in own.adapters.state_dict().items()}
    loaded, names = own.trunk.loaded, set(state)
    with pytest.raises(CheckpointMismatchError) as caught:
        load(own, state)
    after = own.trunk.state_dict() | own.adapters.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert own.trunk.loaded is loaded
    assert set(state) == names
    return str(caught.value)


# --- Records: trunk, weights, settings. ---


@LOADS
def test_another_trunk(load: Callable) -> None:
    message = refuse(backbone('dinov2'), saved(trunk='registers'), load)
    assert 'timm/vit_small_patch14_reg4_dinov2' in message  # it was trained on
    assert "'timm/vit_small_patch14_dinov2'" in message  # the config builds
    assert 'Use the config' in message


@LOADS
@pytest.mark.parametrize('trunk', ['dinov2', 'mmpretrain'])
def test_other_weights(trunk: str, load: Callable) -> None:
    other = backbone(trunk, trunk_options=RANDOM, seed=1)
    message = refuse(other, saved(trunk=trunk), load)
    assert backbone(trunk).trunk.fingerprint in message and other.trunk.fingerprint in message
    assert 'pretrained weights' in message and 'random weights' in message
    assert 'Set `weights`' in message
    assert not other.trunk.loaded


OTHER_SETTINGS: dict[str, Any] = {
    'bottleneck': 6,
    'kernel_sizes': (3, 5),
    'fusion': 'none',
    'gate': 'mean',
    'gate_hidden': 3,
    'modulation': 'none',
    'modulation_hidden': 3,
    'prefix_tokens': 'skip',
    'scale': 0.5,
    'position': 'both',
    'blocks': [0],
}


@pytest.mark.parametrize(('name', 'value'), OTHER_SETTINGS.items(), ids=str)
def test_other_settings(name: str, value: Any) -> None:
    message = refuse(backbone(), saved(tuner=sigma(**{name: value})))
    for setting in sigma() | OTHER_SETTINGS:
        assert (f'{setting}: ' in message) == (setting == name), setting
    assert 'in the checkpoint' in message and 'in the config' in message


def test_every_recorded_setting_is_in_the_table() -> None:
    recorded = backbone().tuner.settings().keys()
    assert recorded - {'type'} == OTHER_SETTINGS.keys()


@pytest.mark.parametrize('settings', [{'dropout': 0.3}, {'form': 'plain'}], ids=str)
def test_settings_that_change_no_function_may_differ(settings: dict) -> None:
    source, own = backbone(), backbone(tuner=sigma(**settings), seed=4)
    shake(source)
    own.load_state_dict(source.state_dict())
    expected = [value for name, value in source.state_dict().items() if name != RECORD]
    loaded = [value for name, value in own.state_dict().items() if name != RECORD]
    assert all(map(torch.equal, loaded, expected))


@LOADS
@pytest.mark.parametrize(('theirs', 'ours'), [('Mona', 'SIGMA'), ('SIGMA', 'Frozen')])
def test_another_tuner(theirs: str, ours: str, load: Callable) -> None:
    message = refuse(backbone(tuner=ours), saved(tuner=theirs), load)
    assert f"type: '{theirs}' in the checkpoint, '{ours}' in the config" in message


# --- Tensors. ---

ADAPTER = 'adapters.at.0.after_block.'


def without(name: str) -> Callable:
    return lambda state: state.pop(name)


def with_(name: str, value: Tensor) -> Callable:
    return lambda state: state.update({name: value})


@LOADS
@pytest.mark.parametrize(
    ('damage', 'parts'),
    [
        (without(RECORD), ['no mmsigma record', '`trunk=dict(weights=...)`']),
        (without(f'{ADAPTER}up.weight'), ['1 missing', f'{ADAPTER}up.weight']),
        (with_(f'{ADAPTER}extra', torch.zeros(1)), ['1 unknown', f'{ADAPTER}extra']),
        (with_('extra.weight', torch.zeros(1)), ['1 unknown', 'extra.weight']),
        (with_('trunk.extra', torch.zeros(1)), ['1 unknown', 'trunk.extra']),
        (
            with_(f'{ADAPTER}up.bias', torch.zeros(3)),
            ['1 misshapen', f'{ADAPTER}up.bias is (3,), expected (32,)'],
        ),
        (with_('trunk.model.norm.bias', torch.zeros(3)), ['1 misshapen', '(3,), expected (32,)']),
        (with_(RECORD, torch.zeros(7, dtype=torch.uint8)), ['unreadable record']),
        (with_(RECORD, torch.zeros(7)), ['unreadable record']),
        (with_(RECORD, torch.tensor([91, 93], dtype=torch.uint8)), ['unreadable record']),
        (with_(RECORD, 'text'), ['unreadable record']),
    ],
)
def test_damage(damage: Callable, parts: list[str], load: Callable) -> None:
    state = dict(saved())
    damage(state)
    message = refuse(backbone(seed=6), state, load)
    assert all(part in message for part in parts), message


def test_upstream_weights_are_no_checkpoint() -> None:
    state = {f'trunk.{name}': value for name, value in backbone().trunk.state_dict().items()}
    assert 'no mmsigma record' in refuse(backbone(), state)


def test_newer_format() -> None:
    state = saved()
    record = json.loads(bytes(state[RECORD].tolist()))
    record['format'] = checkpoint_record.FORMAT + 1
    state[RECORD] = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
    message = refuse(backbone(), state)
    assert f'format {checkpoint_record.FORMAT + 1}' in message and 'Upgrade' in message


@pytest.mark.parametrize('tuner', ['Full', 'BitFit'])
def test_what_trains_of_the_trunk_is_required(tuner: str) -> None:
    state = saved(tuner=tuner)
    del state['trunk.model.norm.bias']
    assert 'trunk.model.norm.bias' in refuse(backbone(tuner=tuner), state)


def test_a_refusal_reaches_through_a_whole_model() -> None:
    state = nn.ModuleDict({'backbone': backbone(), 'head': nn.Linear(2, 2)}).state_dict()
    del state[f'backbone.{ADAPTER}up.weight']
    model = nn.ModuleDict({'backbone': backbone(), 'head': nn.Linear(2, 2)})
    with pytest.raises(CheckpointMismatchError, match=r'1 missing \(adapters'):
        load_state_dict(model, state)


# --- What loads. ---


@pytest.mark.parametrize('trunk', KINDS)
@pytest.mark.parametrize('tuner', ['SIGMA', 'Frozen', 'BitFit', 'Full'])
def test_random_trunk_is_confirmed_by_a_checkpoint_of_the_same_weights(
    tuner: str, trunk: str
) -> None:
    source, own = (backbone(trunk, tuner, trunk_options=RANDOM, seed=3) for _ in range(2))
    assert not source.trunk.loaded and not own.trunk.loaded
    own.load_state_dict(source.state_dict())
    assert own.trunk.loaded
    assert backbone(trunk, tuner).trunk.loaded


@pytest.mark.parametrize('trunk', KINDS)
def test_full_brings_its_own_trunk(trunk: str) -> None:
    source = backbone(trunk, 'Full')
    shake(source)
    own = backbone(trunk, 'Full', trunk_options=RANDOM, seed=5)
    own.load_state_dict(source.state_dict())
    assert own.trunk.loaded
    assert same(own(images(trunk)), source(images(trunk)))


def test_bitfit_does_not() -> None:
    own = backbone(tuner='BitFit', trunk_options=RANDOM, seed=5)
    assert 'other weights' in refuse(own, saved(tuner='BitFit'))


def test_checkpoints_are_small_and_plain(tmp_path) -> None:
    """Tensors only, none of the trunk: they go through safetensors and weights_only loading."""
    own = backbone()
    shake(own)
    save_file(own.state_dict(), tmp_path / 'own.safetensors')
    other = backbone(seed=8)
    other.load_state_dict(load_file(tmp_path / 'own.safetensors'))
    assert same(other(images()), own(images()))
    adapters = sum(p.numel() for p in own.adapters.parameters())
    assert sum(v.numel() for n, v in own.state_dict().items() if n != RECORD) == adapters


@pytest.mark.parametrize('tuner', TUNERS)
def test_record(tuner: str) -> None:
    own = backbone('registers', tuner)
    record = checkpoint_record.decode(own.state_dict()[RECORD])
    assert record.pop('format') == checkpoint_record.FORMAT
    assert record['trunk'] == 'timm/vit_small_patch14_reg4_dinov2'
    assert record['fingerprint'] == own.trunk.fingerprint
    assert record['loaded'] is True
    assert record['tuner'] == own.tuner.settings()
    assert record == own.record()


@pytest.mark.parametrize('trunk', sampled(TRUNKS, KINDS.__contains__))
def test_fingerprint_is_of_the_weights_alone(trunk: str) -> None:
    def of(**options: Any) -> str:
        return backbone(trunk, 'Frozen', trunk_options=options).trunk.fingerprint

    assert of() == of(dtype='bfloat16') == of(mode='train')
    own = backbone(trunk, 'Full')
    assert len(own.trunk.fingerprint) == 32
    assert of(weights='random') != of()


def test_fingerprint_sees_every_weight() -> None:
    from mmsigma.models.trunks.base import fingerprint

    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    seen = {fingerprint(module)}
    for value in module.state_dict().values():
        value += 1
        seen.add(fingerprint(module))
    assert len(seen) == 1 + len(module.state_dict())
    # Names and shapes count as well as values.
    assert fingerprint(nn.ParameterDict({'a': torch.zeros(2, 3)})) not in {
        fingerprint(nn.ParameterDict({'b': torch.zeros(2, 3)})),
        fingerprint(nn.ParameterDict({'a': torch.zeros(3, 2)})),
    }
