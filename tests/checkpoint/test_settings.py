"""A checkpoint never loads into a model that computes something else without a word."""

import copy
import inspect
from typing import Any

import pytest
import torch

from mmsigma.checkpoint import adapter_files
from mmsigma.errors import CheckpointMismatchError, MMSigmaError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import TRUNKS as CLASSES
from mmsigma.registry import find
from tests.sample import sampled
from tests.tiny import TRUNKS, backbone, images, trunk_config

# Other values of every argument that a family may have; those that build are tried.
OTHERS: dict[str, list[Any]] = {
    'final_norm': [True, False],
    'pos_resample': ['dinov2', 'timm'],
    'window': [2],
    'global_blocks': [1],
    'model_args': [
        {'num_heads': 1},
        {'num_heads': 4},
        {'act_layer': 'relu'},
        {'qk_norm': True},
        {'window_size': 2},
        {'init_values': 0.5},
        {'drop_path_rate': 0.3},
        {'img_size': 84},
    ],
}
FREE = {'model_name', 'weights', 'mode', 'dtype', 'arch'}
CHANGES = [
    (name, argument, value)
    for name, tiny in TRUNKS.items()
    for argument in inspect.signature(find(CLASSES, tiny.config)).parameters
    if argument not in FREE
    for value in OTHERS.get(argument, [])
]


def saved(name: str) -> tuple[AdaptedBackbone, dict[str, Any], list[torch.Tensor]]:
    own = backbone(name, 'SIGMA').eval()
    with torch.no_grad():
        for parameter in own.adapters.parameters():
            parameter.normal_(std=0.1)
    return own, own.state_dict(), own(images(name))


def test_every_argument_is_swept() -> None:
    swept = {argument for _, argument, _ in CHANGES}
    known = {
        argument
        for tiny in TRUNKS.values()
        for argument in inspect.signature(find(CLASSES, tiny.config)).parameters
    }
    assert known - FREE == swept


@pytest.mark.parametrize(
    ('name', 'argument', 'value'),
    sampled(CHANGES, lambda change: change[1] != 'model_args' or 'num_heads' in change[2]),
)
def test_equal_maps_or_a_refusal_that_names_it(name: str, argument: str, value: Any) -> None:
    own, state, maps = saved(name)
    config = copy.deepcopy(trunk_config(name))
    if argument == 'model_args':
        config['model_args'] = {**config.get('model_args', {}), **value}
    else:
        config[argument] = value
    try:
        other = AdaptedBackbone(config, dict(own.tuner.settings()), own.out_indices).eval()
    except (MMSigmaError, TypeError, ValueError, RuntimeError, KeyError):
        pytest.skip('this family does not build with it')
    word = next(iter(value)) if argument == 'model_args' else argument
    try:
        other.load_state_dict(state)
    except CheckpointMismatchError as error:
        assert word in str(error)
        return
    for found, expected in zip(other(images(name)), maps, strict=True):
        torch.testing.assert_close(found, expected)


def test_other_outputs_are_refused_for_a_model_and_taken_for_adapters(tmp_path: Any) -> None:
    own, state, _ = saved('dinov2')
    config, tuner = trunk_config('dinov2'), dict(own.tuner.settings())
    other = AdaptedBackbone(config, tuner, own.out_indices[-1:])
    with pytest.raises(CheckpointMismatchError, match='out_indices'):
        other.load_state_dict(state)
    adapter_files.save(state, tmp_path)
    adapter_files.load(other, tmp_path)


def test_a_file_of_before_is_read_with_a_warning(monkeypatch: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr('mmsigma.checkpoint.record.print_log', lambda text, **_: said.append(text))
    own, _, maps = saved('dinov2')
    record = {name: value for name, value in own.record().items() if name != 'settings'}
    with monkeypatch.context() as patch:
        patch.setattr(own, 'record', lambda: record)
        state = own.state_dict()
    own.load_state_dict(state)
    torch.testing.assert_close(own(images('dinov2')), maps)
    assert len(said) == 1 and 'of an earlier mmsigma: it does not say' in said[0]
