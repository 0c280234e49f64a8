"""Merging: the same maps with less to run, or a refusal that names the tuner and says why."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmsigma import registry
from mmsigma.checkpoint import record as checkpoint_record
from mmsigma.checkpoint.merge import merge
from mmsigma.errors import CheckpointMismatchError, InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.base import fingerprint
from mmsigma.models.tuners.base import Tuner
from tests.sample import sampled
from tests.tiny import (
    KINDS,
    TRUNKS,
    TUNERS,
    backbone,
    carries,
    images,
    same,
    shake,
    sigma,
    trunk_config,
)

# What is left of each method that merges.
LEFT = {
    'HFPeft': 'Frozen',
    'SSF': 'Frozen',
    'Full': 'Frozen',
    'BitFit': 'Frozen',
    'NormTuning': 'Frozen',
    'Partial': 'Frozen',
    'LoRand': 'Adapter',
}
# Why the others do not.
WHY = {
    'Adapter': 'GELU',
    'AdaptFormer': 'ReLU',
    'Convpass': 'GELU',
    'Frozen': 'adds nothing',
    'Mona': 'GELU',
    'Rein': 'softmax',
    'SIGMA': "gate='channel'",
    'VFMAdapter': 'for each image',
    'VPT': 'tokens',
}
# Trunks with layers that have no bias to take SSF's shift, and one of those layers.
BARE = {
    'aimv2': 'blocks.0.norm1',
    'clip': 'patch_embed.proj',
    'pe': 'patch_embed.proj',
    'post-norm': 'attn.qkv',
    'dinov3': 'attn.qkv',
    'eva02': 'attn.k_proj',
    'parallel': 'patch_embed.proj',
}
STATIC = sigma(gate='static', scale='learned')
# What changes layers inside a trunk is merged everywhere; the rest on every kind of trunk.
PAIRS = [
    (tuner, trunk)
    for tuner in LEFT
    for trunk in TRUNKS
    if carries(trunk, tuner) and (trunk in KINDS or tuner in ('HFPeft', 'SSF'))
]
FOLDS = [pair for pair in PAIRS if pair[0] != 'SSF' or pair[1] not in BARE]


def shaken(trunk: str, tuner: str | dict[str, Any], **options: Any) -> AdaptedBackbone:
    """A backbone none of whose trained values is what it started with."""
    own = backbone(trunk, tuner, **options)
    shake(own)
    return own


def close(first: AdaptedBackbone, second: AdaptedBackbone, trunk: str, bound: float = 1e-5) -> bool:
    """Whether the maps agree on square, odd and non-square images."""
    p = TRUNKS[trunk].patch
    agree = []
    with torch.no_grad():
        for height, width in ((4 * p, 4 * p), (3 * p + 1, 5 * p - 2)):
            x = images(trunk, height, width)
            for ours, other in zip(first(x), second(x), strict=True):
                atol = bound * max(1.0, float(ours.abs().max()))
                agree.append(torch.allclose(ours, other, rtol=0, atol=atol))
    return all(agree)


def reload(merged: AdaptedBackbone, trunk: str, folder: Path, **options: Any) -> AdaptedBackbone:
    """The merged model built anew, from a weight file and a state dict."""
    file = folder / 'trunk.safetensors'
    save_file({k: v.contiguous().clone() for k, v in merged.trunk.weights().items()}, file)
    config = trunk_config(trunk, **{**options, 'weights': str(file)})
    tuner = {**merged.tuner.settings(), **vars(merged.tuner)}
    again = AdaptedBackbone(config, tuner, merged.out_indices).eval()
    again.load_state_dict(merged.state_dict())
    return again


def test_every_tuner_folds_or_says_why() -> None:
    assert LEFT.keys() | WHY.keys() == set(registry.TUNERS.module_dict)


@pytest.mark.parametrize(('tuner', 'trunk'), sampled(FOLDS, lambda pair: pair[1] in KINDS))
def test_maps_stay_and_reload(tuner: str, trunk: str, tmp_path: Path) -> None:
    own = shaken(trunk, tuner)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    merged = merge(own)
    assert close(own, merged, trunk)
    assert not close(backbone(trunk, 'Frozen'), merged, trunk, 1e-3)
    assert type(merged.tuner).__name__ == LEFT[tuner] and not merged.training
    trained = [n for n, p in merged.named_parameters() if p.requires_grad]
    assert trained == [f'adapters.{n}' for n, _ in merged.adapters.named_parameters()]
    assert own.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())

    folded = LEFT[tuner] == 'Frozen'
    assert (merged.trunk.fingerprint != own.trunk.fingerprint) == folded
    assert set(merged.state_dict()) == {'_extra_state', *trained}
    assert merged.trunk.weights().keys() == backbone(trunk, 'Frozen').trunk.weights().keys()
    again = reload(merged, trunk, tmp_path)
    assert again.trunk.fingerprint == merged.trunk.fingerprint
    assert same(again(images(trunk)), merged(images(trunk)))


@pytest.mark.parametrize('tuner', [t for t in TUNERS if TUNERS[t]['type'] in WHY])
def test_what_does_not_merge(tuner: str) -> None:
    name = TUNERS[tuner]['type']
    if tuner == 'SIGMA-static-plain-last':
        return  # merged below
    why = "gate='spatial'" if 'spatial' in tuner else WHY[name]
    with pytest.raises(InvalidSettingError, match=f'^{name} does not merge.*{why}'):
        merge(shaken('registers', tuner))


def test_a_tuner_of_ones_own_does_not_merge() -> None:
    @dataclass
    class Own(Tuner):
        def attach(self, context: Any) -> tuple[()]:
            return ()

    own = backbone('registers', 'Frozen')
    own.tuner = Own()
    with pytest.raises(InvalidSettingError, match='Own does not merge: it has no `merge`'):
        merge(own)


# --- SSF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('trunk', BARE)
def test_a_shift_needs_a_bias(trunk: str) -> None:
    own = shaken(trunk, 'SSF')
    before = {k: v.clone() for k, v in own.state_dict().items()}
    with pytest.raises(InvalidSettingError, match=f'SSF does not merge.*{BARE[trunk]}'):
        merge(own)
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    with torch.no_grad():
        for name, parameter in own.adapters.named_parameters():
            if name.endswith('beta'):
                parameter.zero_()
    assert close(own, merge(own), trunk)  # a scale alone needs none


def test_every_trunk_that_carries_ssf_is_in_a_table() -> None:
    carrying = {trunk for trunk in TRUNKS if carries(trunk, 'SSF')}
    assert {t for u, t in FOLDS if u == 'SSF'} == carrying - BARE.keys()


# --- SIGMA and LoRand ---------------------------------------------------------------------------

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'static': ({'gate': 'static'}, {'kernel_sizes': [7], 'gate': 'mean'}),
    'mean': ({'gate': 'mean'}, {'kernel_sizes': [7], 'gate': 'mean'}),
    'plain': ({'gate': 'static', 'form': 'plain'}, {'kernel_sizes': [7]}),
    'one kernel': ({'gate': 'static', 'kernel_sizes': [5]}, {'kernel_sizes': [5], 'gate': 'mean'}),
    'any order': ({'gate': 'static', 'kernel_sizes': [5, 1, 5]}, {'kernel_sizes': [5]}),
    'scale': ({'gate': 'mean', 'kernel_sizes': [3], 'scale': -0.5}, {'scale': 1.0}),
    'learned': ({'gate': 'static', 'scale': 'learned'}, {'scale': 1.0}),
    'no fusion': ({'fusion': 'none', 'scale': 'learned'}, {'fusion': 'none', 'gate': 'channel'}),
    'no modulation': ({'gate': 'static', 'modulation': 'none'}, {'modulation': 'none'}),
    'skip': ({'gate': 'static', 'prefix_tokens': 'skip'}, {'prefix_tokens': 'skip'}),
    'places': ({'gate': 'static', 'position': 'both', 'blocks': [-1]}, {'blocks': [-1]}),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_sigma(name: str, tmp_path: Path) -> None:
    settings, left = VARIANTS[name]
    own = shaken('registers', sigma(**settings))
    merged = merge(own)
    assert close(own, merged, 'registers')
    before, found = own.tuner.settings(), merged.tuner.settings()
    changed = {key for key in before if before[key] != found[key]}
    assert changed <= {'gate', 'kernel_sizes', 'scale'}
    assert left.items() <= found.items()
    assert same(
        reload(merged, 'registers', tmp_path)(images('registers')), merged(images('registers'))
    )
    with pytest.raises(InvalidSettingError, match='SIGMA does not merge: no kernels to sum'):
        merge(merged)


@pytest.mark.parametrize('trunk', sorted(KINDS))
def test_sigma_on_every_kind_of_trunk(trunk: str) -> None:
    own = shaken(trunk, STATIC)
    assert close(own, merge(own), trunk)


def test_a_bottleneck_for_each_stage(tmp_path: Path) -> None:
    for tuner in (TUNERS['LoRand'], {**STATIC, 'bottleneck': [4, 6]}):
        own = shaken('swin', tuner)
        merged = merge(own)
        expected = [8, 16] if tuner['type'] == 'LoRand' else [4, 6]
        assert merged.tuner.settings()['bottleneck'] == expected
        assert close(own, merged, 'swin')
        again = reload(merged, 'swin', tmp_path)
        assert same(again(images('swin')), merged(images('swin')))
    assert merge(shaken('registers', 'LoRand')).tuner.settings()['bottleneck'] == 16
    for bad in ([], [0, 4], [4, True], 'x'):
        with pytest.raises(InvalidSettingError, match='Adapter bottleneck must be a whole number'):
            backbone('swin', {'type': 'Adapter', 'bottleneck': bad})
    with pytest.raises(InvalidSettingError, match='names 3 stages, but this trunk has 2'):
        backbone('swin', {'type': 'Adapter', 'bottleneck': [4, 4, 4]})


# --- peft ---------------------------------------------------------------------------------------

ATTENTION = ['attn.proj', 'attn.qkv']
TYPES: dict[str, dict[str, Any]] = {
    'LORA': {'r': 4, 'lora_alpha': 8, 'target_modules': [*ATTENTION, 'fc1', 'patch_embed.proj']},
    'biases': {'peft_type': 'LORA', 'r': 4, 'bias': 'all', 'target_modules': ATTENTION},
    'dropout': {'peft_type': 'LORA', 'r': 4, 'lora_dropout': 0.5, 'target_modules': ATTENTION},
    'DoRA': {'peft_type': 'LORA', 'r': 4, 'use_dora': True, 'target_modules': ATTENTION},
    'IA3': {'target_modules': ['qkv', 'fc2'], 'feedforward_modules': ['fc2']},
    'OFT': {'oft_block_size': 8, 'r': 0, 'target_modules': ATTENTION},
    'BOFT': {'boft_block_size': 4, 'target_modules': ATTENTION},
    'VERA': {'r': 8, 'target_modules': ['attn.proj']},
    'LN_TUNING': {'target_modules': ['norm1', 'norm2']},
    'LOHA': {'r': 4, 'target_modules': ATTENTION},
    'LOKR': {'r': 4, 'target_modules': ATTENTION},
    'HRA': {'r': 4, 'target_modules': ATTENTION},
}


@pytest.mark.parametrize('name', TYPES)
def test_peft(name: str, tmp_path: Path) -> None:
    own = shaken('registers', {'type': 'HFPeft', 'peft_type': name, **TYPES[name]})
    merged = merge(own)
    assert close(own, merged, 'registers')
    assert not close(backbone('registers', 'Frozen'), merged, 'registers', 1e-3)
    plain = backbone('registers', 'Frozen')
    assert [(n, type(m)) for n, m in merged.named_modules()] == [
        (n, type(m)) for n, m in plain.named_modules()
    ]
    assert same(
        reload(merged, 'registers', tmp_path)(images('registers')), merged(images('registers'))
    )


def test_peft_types_that_do_not_merge() -> None:
    for options in (
        {'peft_type': 'LILY', 'r': 4},  # peft has no merge
        {'peft_type': 'TRAINABLE_TOKENS', 'token_indices': [0]},  # its merge is of embeddings
    ):
        tuner = {'type': 'HFPeft', 'target_modules': ['attn.proj'], **options}
        with pytest.raises(
            InvalidSettingError, match=f'{options["peft_type"]} does not merge.*attn.proj'
        ):
            merge(shaken('registers', tuner))


# --- Trunks that leave something out, of half precision, shared -----------------------------------


@pytest.mark.parametrize('trunk', [t for t in TRUNKS if False in TRUNKS[t].norms])
def test_the_weight_file_is_whole(trunk: str, tmp_path: Path) -> None:
    """What no map needs is in it as it was loaded, though the trunk has dropped it."""
    options = {'final_norm': False} if len(TRUNKS[trunk].norms) == 2 else {}
    own = shaken(trunk, 'HFPeft', trunk_options=options)
    merged = merge(own)
    again = reload(merged, trunk, tmp_path, **options)
    assert again.trunk.fingerprint == merged.trunk.fingerprint
    assert same(again(images(trunk)), merged(images(trunk)))


@pytest.mark.parametrize('trunk', ['registers', 'swin', 'convnext', 'mmpretrain-swin-4'])
def test_blocks_that_do_not_run(trunk: str, tmp_path: Path) -> None:
    outputs = backbone(trunk, 'Frozen').trunk.outputs()
    first = sorted(outputs)[0]
    for tuner in ('HFPeft', 'SSF'):
        own = shaken(trunk, tuner, out_indices=[first])
        merged = merge(own)
        assert merged.out_indices == own.out_indices and close(own, merged, trunk)
        assert same(reload(merged, trunk, tmp_path)(images(trunk)), merged(images(trunk)))


@pytest.mark.parametrize('tuner', ['HFPeft', 'SSF', 'LoRand', 'Full', 'NormTuning'])
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision(tuner: str, dtype: str, tmp_path: Path) -> None:
    options = {'dtype': dtype}
    own = shaken('registers', tuner, trunk_options=options)
    merged = merge(own)
    assert merged.trunk.dtype == own.trunk.dtype
    close_enough = {'bfloat16': 0.05, 'float16': 0.01}[dtype]
    assert close(own, merged, 'registers', close_enough)
    again = reload(merged, 'registers', tmp_path, **options)
    assert again.trunk.fingerprint == merged.trunk.fingerprint
    assert same(again(images('registers')), merged(images('registers')))


def test_the_merged_trunk_is_another() -> None:
    own = shaken('registers', 'HFPeft')
    merged = merge(own)
    assert merged.trunk.fingerprint == fingerprint(merged.trunk.weights())
    assert own.trunk.fingerprint == backbone('registers', 'Frozen').trunk.fingerprint
    record = checkpoint_record.decode(merged.get_extra_state())
    assert record['tuner'] == {'type': 'Frozen'} and record['trunk'] == own.trunk.name
    assert json.dumps(record)
    with pytest.raises(CheckpointMismatchError, match='other weights'):
        backbone('registers', 'Frozen').load_state_dict(merged.state_dict())
    with pytest.raises(CheckpointMismatchError, match='other adapter settings'):
        merged.load_state_dict(own.state_dict())


def test_copies_and_modes() -> None:
    own = shaken('registers', 'SSF').train()
    merged = merge(own)
    assert own.training and not merged.training
    assert not {p.data_ptr() for p in own.parameters()} & {
        p.data_ptr() for p in merged.parameters()
    }
    assert not any(m._forward_hooks for m in merged.modules())
    assert close(own.eval(), copy.deepcopy(merged), 'registers')
    trained = [p for p in merge(shaken('registers', 'LoRand')).parameters() if p.requires_grad]
    assert trained and all(isinstance(p, nn.Parameter) for p in trained)


def test_precision_stays() -> None:
    assert merge(shaken('dinov2', 'SSF', autocast='bfloat16')).autocast == 'bfloat16'
