"""Gradients of every module that a tuner adds, against differences of its own values, in float64.

The modules are taken where the tuner has put them, in a trunk of width 6, and called with tokens
of their own. What they borrow from each other is checked with those that call it.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from mmsigma import registry
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.ops.depthwise import FORMS
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.injection import OutputHook
from mmsigma.models.tuners.sigma import FUSIONS, GATES, MODULATIONS, PREFIX_TOKENS
from tests.tiny import shake

WIDTH, CLASS_TOKEN = 6, 1
TRUNK = {
    'type': 'TimmViT',
    'model_name': 'vit_tiny_patch16_224',
    'weights': 'random',
    'model_args': {'embed_dim': WIDTH, 'num_heads': 2, 'mlp_ratio': 1, 'img_size': 32, 'depth': 2},
}

SIGMA: dict[str, Any] = {'type': 'SIGMA', 'bottleneck': 2, 'gate_hidden': 2, 'modulation_hidden': 2}
SIGMA |= {'kernel_sizes': (1, 3), 'blocks': [-1]}
LORA = {'type': 'HFPeft', 'r': 2, 'target_modules': ['attn.proj']}
CASES: dict[str, dict[str, Any]] = {
    'Adapter': {'type': 'Adapter', 'bottleneck': 3},
    'AdaptFormer': {'type': 'AdaptFormer', 'bottleneck': 3},
    'Convpass': {'type': 'Convpass', 'bottleneck': 2},
    'LoRand': {'type': 'LoRand', 'bottleneck': 3, 'rank': 2},
    **{f'Mona-{form}': {'type': 'Mona', 'bottleneck': 2, 'form': form} for form in FORMS},
    'Rein': {'type': 'Rein', 'tokens': 3, 'rank': 2},
    'SSF': {'type': 'SSF'},
    'VFMAdapter': {'type': 'VFMAdapter', 'bottleneck': 2, 'rank': 2},
    'VPT-deep': {'type': 'VPT', 'prompts': 2},
    'VPT-shallow': {'type': 'VPT', 'prompts': 2, 'deep': False},
    # Not DoRA: by its paper, it takes the norm of the weight for a constant in its gradient.
    'HFPeft-LORA': {**LORA, 'peft_type': 'LORA'},
    'HFPeft-IA3': {
        'type': 'HFPeft',
        'peft_type': 'IA3',
        'target_modules': ['attn.proj', 'fc2'],
        'feedforward_modules': ['fc2'],
    },
    'SIGMA-everywhere': {**SIGMA, 'position': ['after_block', 'parallel_attention']},
    'SIGMA-learned': {**SIGMA, 'scale': 'learned'},
    **{
        f'SIGMA-{gate}-{form}': {**SIGMA, 'gate': gate, 'form': form}
        for gate in GATES
        for form in FORMS
    },
    **{f'SIGMA-fusion-{name}': {**SIGMA, 'fusion': name} for name in FUSIONS},
    **{f'SIGMA-modulation-{name}': {**SIGMA, 'modulation': name} for name in MODULATIONS},
    **{f'SIGMA-prefix-{name}': {**SIGMA, 'prefix_tokens': name} for name in PREFIX_TOKENS},
}
# These train what the trunk has.
NO_MODULE = {'BitFit', 'Frozen', 'Full', 'NormTuning', 'Partial'}

Call = Callable[[Tensor], Tensor]


def build(tuner: dict[str, Any]) -> AdaptedBackbone:
    torch.manual_seed(0)
    own = AdaptedBackbone(TRUNK, tuner).double().eval()
    shake(own)
    return own


def calls(own: AdaptedBackbone) -> Iterator[tuple[str, nn.Module, Call, tuple[int, ...]]]:
    """Name, module, how to call it with one tensor, and the shape of that."""
    for index, places in own.adapters.at.items():
        for position, module in cast(nn.ModuleDict, places).items():
            prefix = CLASS_TOKEN + int(getattr(module, 'replaced', 0))
            layout = TokenLayout(2, 2, prefix, class_token=True)

            def call(x: Tensor, module: nn.Module = module, layout: Any = layout) -> Tensor:
                out = module(x, layout)
                return out if isinstance(out, Tensor) else out[0]

            yield f'{index}.{position}', module, call, (2, prefix + 4, WIDTH)
    for name, layer in own.trunk.named_modules():
        for hook in layer._forward_hooks.values():
            if isinstance(hook, OutputHook):
                width = len(cast(Tensor, layer.weight))
                image = isinstance(layer, nn.Conv2d)
                yield name, hook.adapter, hook.adapter, (2, width, 1, 2) if image else (2, 2, width)
        if any(name.startswith('lora_') or name.startswith('ia3_') for name in children(layer)):
            yield name, layer, layer, (2, 2, cast(Any, layer).in_features)


def children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


@pytest.mark.parametrize('case', CASES)
def test_gradients_of_each_module(case: str) -> None:
    own = build(CASES[case])
    shared = list(own.adapters.shared.parameters())
    checked: set[int] = set()
    for name, module, call, shape in calls(own):
        generator = torch.Generator().manual_seed(len(checked))
        x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        parameters = [p for p in module.parameters() if p.requires_grad]
        parameters += [p for p in shared if all(p is not q for q in parameters)]
        output = call(x)
        used = torch.autograd.grad(output.sum(), parameters, allow_unused=True, retain_graph=True)
        parameters = [p for p, g in zip(parameters, used, strict=True) if g is not None]
        assert any(p is q for p in parameters for q in module.parameters()), name

        def function(x: Tensor, *_: Tensor, call: Call = call) -> Tensor:
            return call(x)

        assert torch.autograd.gradcheck(function, (x, *parameters)), name
        checked |= {id(p) for p in parameters}
    trained = {n for n, p in own.named_parameters() if p.requires_grad and id(p) not in checked}
    assert checked and not trained


@pytest.mark.parametrize('tuner', sorted(NO_MODULE))
def test_the_others_have_no_module(tuner: str) -> None:
    own, frozen = build({'type': tuner}), build({'type': 'Frozen'})
    assert not list(own.adapters.parameters())
    assert [n for n, _ in own.named_modules()] == [n for n, _ in frozen.named_modules()]


def test_every_tuner_is_here() -> None:
    registry.TUNERS.import_from_location()
    covered = {case['type'] for case in CASES.values()}
    assert not covered & NO_MODULE
    own = {n for n, c in registry.TUNERS.module_dict.items() if c.__module__.startswith('mmsigma')}
    assert own == covered | NO_MODULE
