"""Bad settings, and trunks that cannot carry a tuner: what was given, and what to do instead."""

import copy
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import timm
import torch

from mmsigma.errors import InvalidSettingError, MMSigmaError, UnknownNameError
from mmsigma.models.trunks.block import CALLED, DIVIDED, PRE_NORM, PROMPTS
from mmsigma.models.tuners.base import missing
from mmsigma.models.tuners.injection import AdapterBank, InjectionContext
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import TUNERS, build
from tests.sample import sampled
from tests.tiny import KINDS, REFUSED, TRUNKS, backbone
from tests.tiny import TUNERS as SMALL

NAN, INF = float('nan'), float('inf')
# What is wrong whatever a setting of this kind is for.
COUNT = [0, -1, 2.5, '8', True, None, NAN, [], [0], {}]
FLAG = [0, 1, 'no', None, NAN, []]
PROBABILITY = [-0.1, 1, 1.5, NAN, INF, '0.1', True, None, []]
FACTOR = [0, 0.0, NAN, INF, '1', True, None, []]
CHOICE = ['', 'x', 3, None, ['channel'], True]
BAD: dict[str, list[Any]] = {
    'bottleneck': COUNT,
    'rank': COUNT,
    'branches': COUNT,
    'tokens': [*COUNT, 1],
    'prompts': COUNT,
    'k': COUNT,
    'gate_hidden': COUNT,
    'modulation_hidden': COUNT,
    'zero_init': FLAG,
    'final_norm': FLAG,
    'deep': FLAG,
    'dropout': PROBABILITY,
    'scale': FACTOR,
    'std': [-0.1, NAN, INF, '0.1', True, None, []],
    'kernel_sizes': [3, None, 'abc', True, [], [0], [-3], [2], [3.0], [True], ['3']],
    'position': ['', 'after_blok', 3, None, True, [], [3], ['both', 'after_mlp']],
    'blocks': [3, 'abc', True, [], [2], [-3], [0.0], ['0'], [True], [0, 0], [NAN]],
    **{name: CHOICE for name in ('fusion', 'gate', 'modulation', 'prefix_tokens', 'form')},
}
# Values that are right for one method: LoRand takes half of the width.
RIGHT = [('LoRand', 'bottleneck', None)]
# The largest that fits a block of the tiny trunk, of width 32.
WIDEST = ('bottleneck', 'rank')

TUNERS.import_from_location()
OWN = {n: c for n, c in TUNERS.module_dict.items() if n != 'HFPeft' and 'mmsigma' in c.__module__}
SETTINGS = [(name, f.name) for name, cls in sorted(OWN.items()) for f in fields(cls)]


def refused(config: dict[str, Any], kind: type[MMSigmaError] = MMSigmaError) -> str:
    """The message with which a backbone of this tuner is refused."""
    with pytest.raises(kind) as caught:
        backbone('registers', config)
    return str(caught.value)


@pytest.mark.parametrize(('tuner', 'setting'), SETTINGS)
def test_bad_settings(tuner: str, setting: str) -> None:
    for value in BAD[setting]:
        if (tuner, setting, value) in RIGHT:
            continue
        message = refused({**SMALL[tuner], setting: value})
        assert setting in message.lower(), message
        shown = value[0] if isinstance(value, list) and value else value
        assert repr(shown) in message, message


@pytest.mark.parametrize(('tuner', 'setting'), [s for s in SETTINGS if s[1] in WIDEST])
def test_above_the_width(tuner: str, setting: str) -> None:
    config = {**SMALL[tuner], setting: 33}
    if setting == 'rank':  # the other bounds of a rank are tested with its method
        config |= {'tokens': 40} if tuner == 'Rein' else {'bottleneck': 32}
    message = refused(config, InvalidSettingError)
    assert f'{setting} 33 is larger than the width of' in message
    assert '32: use at most 32' in message
    backbone('registers', {**config, setting: 32})


def test_a_misspelt_choice_names_the_nearest() -> None:
    message = refused({**SMALL['SIGMA'], 'gate': 'chanel'}, UnknownNameError)
    assert "SIGMA gate 'chanel'" in message and "Did you mean 'channel'" in message


@pytest.mark.parametrize('tuner', sorted(OWN))
def test_unknown_settings(tuner: str) -> None:
    with pytest.raises(UnknownNameError, match=f"argument of tuner {tuner} 'nothing'"):
        build(TUNERS, {'type': tuner, 'nothing': 1})


LORA = {'type': 'HFPeft', 'peft_type': 'LORA', 'r': 4, 'target_modules': ['attn.proj', 'fc1']}


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        *(({'r': r}, ['LORA `r`', repr(r)]) for r in COUNT),
        ({'r': 33}, ['`r` 33 is larger', 'blocks.0.attn.proj, 32: use at most 32']),
        ({'rank_pattern': {'fc1': 33}}, ['`r` 33 is larger', 'fc1']),
        ({'peft_type': 'LOHA', 'r': 33}, ['LOHA `r` 33', 'use at most 32']),
        *(({'lora_alpha': a}, ['`lora_alpha`', 'other than 0', repr(a)]) for a in FACTOR),
        *(({'lora_dropout': p}, ['`lora_dropout`', '[0, 1)', repr(p)]) for p in PROBABILITY),
        *(({'use_dora': flag}, ['`use_dora` is True or False', repr(flag)]) for flag in FLAG),
        *(({'target_modules': t}, ['`target_modules`', repr(t)]) for t in (3, True, [3], None)),
        ({'target_modules': []}, ['target_modules given: []', 'called fc1, fc2, proj, qkv']),
        ({'target_modules': '.*q_proj'}, ["'.*q_proj'", 'called fc1, fc2, proj, qkv']),
        ({'target_modules': ['q_proj']}, ["called 'q_proj'", 'called fc1, fc2, proj, qkv']),
        # peft would do without the second one, in silence.
        ({'target_modules': ['fc1', 'fc3']}, ["called 'fc3'", 'called fc1, fc2, proj, qkv']),
        ({'peft_type': 'LORRA'}, ["'LORRA'", "Did you mean 'LORA'"]),
        ({'peft_type': None}, ['peft_type None', 'Known: ']),
    ],
    ids=str,
)
def test_bad_settings_of_the_bridge(options: dict[str, Any], words: list[str]) -> None:
    message = refused({**LORA, **options})
    assert all(word in message for word in words), message


def test_a_rank_as_wide_as_the_layer_is_taken() -> None:
    backbone('registers', {**LORA, 'r': 32})


@pytest.mark.parametrize(('tuner', 'trunk'), sampled(REFUSED, lambda pair: pair[1] in KINDS))
def test_refused_with_a_reason(tuner: str, trunk: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        backbone(trunk, tuner)
    message = str(caught.value)
    assert 'Use ' in message
    if tuner == 'SSF':
        assert 'qkv of this trunk' in message and 'without calling it' in message
        return
    assert message.startswith('Block 0 of this trunk') or message.startswith('Block 1 of')
    blocks = backbone(trunk, 'Frozen').trunk.blocks()
    assert type(blocks[0].module).__name__ in message
    reason = 'further tokens' if tuner == 'VPT' else 'norm'
    assert len(TRUNKS[trunk].positions) == 1 or reason in message


# --- What is declared ---------------------------------------------------------------------------

LAYERS = {'type': 'HFPeft', 'peft_type': 'LORA', 'r': 4, 'target_modules': ['attn.qkv']}


@pytest.mark.parametrize('trunk', TRUNKS)
def test_declarations_say_what_building_gives(trunk: str) -> None:
    """Of every tuner, on a tiny trunk of every kind; a final norm is not declared."""
    config = {**TRUNKS[trunk].config, 'weights': 'random'}
    built = build(REGISTRY, config)
    declaring = [config for name, config in SMALL.items() if name != 'Partial-2-norm']
    for tuner in (*declaring, LAYERS):
        own = copy.deepcopy(built)
        context = InjectionContext(own, own.blocks(), own.has_class_token, AdapterBank())
        try:
            list(build(TUNERS, tuner).attach(context))
        except InvalidSettingError as error:
            message = str(error)
        else:
            message = ''
        assert bool(missing(config, tuner)) == bool(message), (tuner, message)


def served() -> Iterator[tuple[str, str]]:
    """Names of timm's models, and the family that runs models of their file."""
    files = {}
    for name, cls in REGISTRY.module_dict.items():
        for upstream in getattr(cls, 'classes', ()):
            files[upstream.__module__] = name
    for name in timm.list_models():
        family = files.get(timm.models.model_entrypoint(name).__module__)
        if family is not None:
            yield name, family


@pytest.mark.slow
def test_declarations_of_all_models_of_timm() -> None:
    """Cut to a block for each stage, and without values."""
    short = {'TimmSwin': {'depths': (1, 1, 1, 1)}}
    short |= {name: {'stages': (1, 1, 1, 1)} for name in ('TimmHiera', 'TimmHieraDet')}
    seen = set()
    for name, family in served():
        config = {'type': family, 'model_name': name, 'weights': 'random'}
        config['model_args'] = short.get(family, {'depth': 1})
        try:
            with torch.device('meta'):
                own = build(REGISTRY, config)
        except InvalidSettingError:
            continue  # blocks of another kind, or more of them
        seen.add(family)
        declared, blocks = type(own).provided(config), own.blocks()
        for what in (DIVIDED, PRE_NORM, PROMPTS):
            assert all(what in b.provides for b in blocks) == (what in declared), (name, what)
        called = all(own.calls(path) for path, _ in own.named_modules())
        assert called == (CALLED in declared), name
        paths = [path for b in blocks for path, _ in b.module.named_modules()]
        assert not called or ('attn.qkv' in paths) == ('layer attn.qkv' in declared), name
    assert len(seen) == 7
