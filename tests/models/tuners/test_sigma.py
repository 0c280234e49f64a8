"""SIGMA against a plain-loop reference, its two forms, its gradients, its budget and its errors."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.block import Block, residual
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.sigma import SIGMA
from tests.tiny import backbone, images, same, shake, sigma

WIDTH, BATCH = 6, 2
LAYOUTS = {  # prefix tokens, class token
    'class+registers': (3, True),
    'registers': (2, False),
    'grid': (0, False),
}
GRIDS = [(5, 7), (1, 4), (8, 8)]
KERNELS = [(3,), (1, 5), (3, 5, 7)]
GATES = ['channel', 'spatial', 'static', 'mean']


class Recorder(dict):
    """Stands where adapters go, and keeps them by block and position."""

    def put(self, index: int, position: str, adapter: nn.Module) -> None:
        self[index, position] = adapter


def attach(tuner: SIGMA, blocks: list[Block], class_token: bool = False) -> Recorder:
    recorder = Recorder()
    assert not list(tuner.attach(InjectionContext(nn.Identity(), blocks, class_token, recorder)))
    return recorder


def block(width: int = WIDTH, stage: int = 0) -> Block:
    steps = residual(nn.Identity()), lambda y, state: y
    return Block(nn.Identity(), width, *steps, stage)


def make(layout: str = 'class+registers', seed: int = 0, **settings: Any) -> nn.Module:
    """A float64 adapter whose every parameter is random."""
    small = {'bottleneck': 4, 'gate_hidden': 3, 'modulation_hidden': 5}
    tuner = SIGMA(**{**small, **settings})
    adapter = attach(tuner, [block()], class_token=LAYOUTS[layout][1])[0, 'after_block']
    adapter.double().eval()
    shake(adapter, seed)
    return adapter


def data(layout: str, grid: tuple[int, int], batch: int = BATCH) -> tuple[Tensor, TokenLayout]:
    prefix, class_token = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(prefix + sum(grid))
    tokens = torch.randn(batch, prefix + math.prod(grid), WIDTH, generator=generator).double()
    return tokens, TokenLayout(*grid, prefix, class_token)


def relative(first: Tensor, second: Tensor) -> float:
    first, second = first.detach(), second.detach()
    return float((first - second).abs().max() / max(1, second.abs().max()))


# --- The reference: the equations, one image, one position and one kernel size at a time. ---


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=0)


class Reference:
    """The adapter's equations in NumPy, from its parameters' names alone."""

    def __init__(self, adapter: nn.Module, settings: dict[str, Any], layout: TokenLayout) -> None:
        self.p = {name: value.detach().numpy() for name, value in adapter.named_parameters()}
        self.gate = settings.get('gate', 'channel')
        self.sizes = settings.get('kernel_sizes', (3, 5, 7))
        self.scale = settings.get('scale', 1.0)
        self.skip = settings.get('prefix_tokens') == 'skip'
        self.layout = layout

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.p[f'{name}.weight'].T + self.p[f'{name}.bias']

    def norm(self, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return unit * self.p['norm.weight'] + self.p['norm.bias']

    def weights(self, z: np.ndarray) -> np.ndarray:
        """``(K, N, r)``: of every granularity, position and channel; ``z`` is ``(N, r)``."""
        count, (places, width) = len(self.sizes), z.shape
        if self.gate == 'channel':
            hidden = gelu(self.linear('fusion.gate.0', z.mean(axis=0)))
            a = softmax(self.linear('fusion.gate.2', hidden).reshape(count, width))
            return np.repeat(a[:, None], places, axis=1)
        if self.gate == 'spatial':
            a = np.stack([softmax(self.linear('fusion.gate.0', z[n])) for n in range(places)], 1)
            return np.repeat(a[:, :, None], width, axis=2)
        if self.gate == 'static':
            return np.repeat(softmax(self.p['fusion.logits'])[:, None], places, axis=1)
        return np.full((count, places, width), 1 / count)

    def fuse(self, z: np.ndarray) -> np.ndarray:
        """Scale-adaptive fusion of one grid ``(N, r)``."""
        rows, columns = self.layout.height, self.layout.width
        image = z.reshape(rows, columns, -1)
        a = self.weights(z)
        fused = z.copy()
        for i, k in enumerate(self.sizes):
            kernel = self.p[f'fusion.scales.{i}.weight'][:, 0].transpose(1, 2, 0)  # (k, k, r)
            half = k // 2
            padded = np.pad(image, ((half, half), (half, half), (0, 0)))
            for y, x in itertools.product(range(rows), range(columns)):
                f = (padded[y : y + k, x : x + k] * kernel).sum(axis=(0, 1))
                n = y * columns + x
                fused[n] += a[i, n] * (f + self.p[f'fusion.scales.{i}.bias'])
        return fused + self.linear('fusion.mix', fused)

    def update(self, tokens: np.ndarray) -> np.ndarray:
        """The update ``(N, C)`` of one image's tokens ``(N, C)``."""
        z = self.linear('down', self.norm(tokens))
        prefix, grid = z[: self.layout.prefix], z[self.layout.prefix :]
        if any(name.startswith('fusion.') for name in self.p):
            grid = self.fuse(grid)
        if any(name.startswith('modulation.') for name in self.p):
            g = grid.mean(axis=0)
            if self.layout.class_token and not self.skip:
                g = np.concatenate([g, prefix[0]])
            hidden = gelu(self.linear('modulation.mlp.0', g))
            gamma, beta = np.split(self.linear('modulation.mlp.2', hidden), 2)
            grid, prefix = (1 + gamma) * grid + beta, (1 + gamma) * prefix + beta
        up = self.linear('up', gelu(np.concatenate([prefix, grid])))
        up = up * (self.p['scale'] if self.scale == 'learned' else self.scale)
        if self.skip:
            up[: self.layout.prefix] = 0
        return up

    def __call__(self, tokens: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([self.update(image) for image in tokens.numpy()]))


FUSED = [{'gate': gate, 'kernel_sizes': kernels} for gate in GATES for kernels in KERNELS]


@pytest.mark.parametrize('scale', ['learned', 0.7])
@pytest.mark.parametrize('prefix_tokens', ['share', 'skip'])
@pytest.mark.parametrize('modulation', ['global', 'none'])
@pytest.mark.parametrize('fusion', [*FUSED, {'fusion': 'none'}], ids=str)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_equals_the_equations(
    layout: str, fusion: dict, modulation: str, prefix_tokens: str, scale: float | str
) -> None:
    settings = {
        **fusion,
        'modulation': modulation,
        'prefix_tokens': prefix_tokens,
        'scale': scale,
    }
    forms = [make(layout, form=form, **settings) for form in ('fast', 'plain')]
    for grid in GRIDS:
        tokens, where = data(layout, grid)
        expected = Reference(forms[0], settings, where)(tokens)
        assert expected[:, -1].all()
        for adapter in forms:
            with torch.no_grad():
                assert relative(adapter(tokens, where), expected) <= 1e-10


@pytest.mark.parametrize('gate', GATES)
@pytest.mark.parametrize('kernel_sizes', KERNELS)
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
    'settings', [{}, {'modulation': 'none'}, {'prefix_tokens': 'skip'}], ids=str
)
def test_forms_agree_in_value_and_gradients(
    settings: dict, layout: str, kernel_sizes: tuple, gate: str
) -> None:
    def run(form: str, grid: tuple[int, int], batch: int) -> list[Tensor]:
        adapter = make(layout, gate=gate, kernel_sizes=kernel_sizes, form=form, **settings)
        tokens, where = data(layout, grid, batch)
        tokens.requires_grad_()
        out = adapter(tokens, where)
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(out.shape, generator=generator, dtype=out.dtype)
        return [out, *torch.autograd.grad((out * weight).sum(), [tokens, *adapter.parameters()])]

    for grid, batch in itertools.product(GRIDS, (1, 3)):
        for fast, plain in zip(run('fast', grid, batch), run('plain', grid, batch), strict=True):
            assert plain.any() or len(kernel_sizes) == 1  # one weight is 1, whatever the gate says
            assert relative(fast, plain) <= 1e-9


@pytest.mark.parametrize('form', ['fast', 'plain'])
@pytest.mark.parametrize('gate', GATES)
def test_gradients_are_the_derivatives(gate: str, form: str) -> None:
    adapter = make(gate=gate, form=form, kernel_sizes=(1, 3), scale='learned', bottleneck=2)
    tokens, where = data('class+registers', (2, 3))
    parameters = dict(adapter.named_parameters())

    def function(tokens: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(adapter, named, (tokens, where))

    assert torch.autograd.gradcheck(function, (tokens.requires_grad_(), *parameters.values()))


@pytest.mark.parametrize('form', ['fast', 'plain'])
@pytest.mark.parametrize('gate', GATES)
def test_parameter_gradients_need_no_input_gradient(gate: str, form: str) -> None:
    """The first adapter of a frozen trunk: its input needs no gradient, its parameters do."""
    adapter = make(gate=gate, form=form)
    tokens, where = data('class+registers', (5, 7))

    def gradients(tokens: Tensor) -> tuple[Tensor, ...]:
        loss = adapter(tokens, where).square().sum()
        return torch.autograd.grad(loss, list(adapter.parameters()))

    alone, along = gradients(tokens), gradients(tokens.clone().requires_grad_())
    assert all(relative(a, b) <= 1e-12 for a, b in zip(alone, along, strict=True))


@pytest.mark.parametrize('form', ['fast', 'plain'])
@pytest.mark.parametrize('gate', GATES)
def test_images_do_not_see_each_other(gate: str, form: str) -> None:
    adapter = make(gate=gate, form=form)
    tokens, where = data('class+registers', (5, 7), batch=3)
    with torch.no_grad():
        together = adapter(tokens, where)
        alone = torch.cat([adapter(image[None], where) for image in tokens])
        # Nor does it matter how the tokens lie in memory.
        strided = adapter(tokens.transpose(0, 1).contiguous().transpose(0, 1), where)
    assert relative(together, alone) <= 1e-12
    assert relative(strided, together) <= 1e-12


@pytest.mark.parametrize('form', ['fast', 'plain'])
@pytest.mark.parametrize('gate', GATES)
def test_autocast_changes_little(gate: str, form: str) -> None:
    adapter = make(gate=gate, form=form, scale='learned').float()
    tokens, where = data('class+registers', (8, 8))
    tokens = tokens.float().requires_grad_()

    def run(autocast: bool) -> list[Tensor]:
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            out = adapter(tokens, where)
        gradients = torch.autograd.grad(out.float().sum(), [tokens, *adapter.parameters()])
        return [out, *gradients]

    for half, exact in zip(run(True), run(False), strict=True):
        assert (half - exact).norm() <= 0.05 * exact.norm()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('gate', GATES)
def test_skipped_prefix_is_neither_read_nor_changed(gate: str, layout: str) -> None:
    adapter = make(layout, gate=gate, prefix_tokens='skip')
    tokens, where = data(layout, (5, 7))
    other = tokens.clone()
    other[:, : where.prefix] = 7
    with torch.no_grad():
        update = adapter(tokens, where)
        assert not update[:, : where.prefix].any()
        assert torch.equal(adapter(other, where), update)


def test_settings_that_change_nothing_but_speed_share_parameters() -> None:
    for gate in GATES:
        fast, plain = (make(gate=gate, form=form).state_dict() for form in ('fast', 'plain'))
        assert {k: v.shape for k, v in fast.items()} == {k: v.shape for k, v in plain.items()}


def test_parameter_names() -> None:
    def names(**settings: Any) -> set[str]:
        return {name for name, _ in make(**settings).named_parameters()}

    common = {f'{m}.{p}' for m in ('norm', 'down', 'up') for p in ('weight', 'bias')}
    fusion = {f'fusion.scales.{i}.{p}' for i in range(3) for p in ('weight', 'bias')}
    fusion |= {'fusion.mix.weight', 'fusion.mix.bias'}
    gate = {f'fusion.gate.{i}.{p}' for i in (0, 2) for p in ('weight', 'bias')}
    modulation = {f'modulation.mlp.{i}.{p}' for i in (0, 2) for p in ('weight', 'bias')}
    assert names() == common | fusion | gate | modulation
    assert names(modulation='none', gate='mean') == common | fusion
    assert names(modulation='none', gate='static') == common | fusion | {'fusion.logits'}
    assert names(modulation='none', fusion='none', scale='learned') == common | {'scale'}


def test_dropout_acts_in_training_only() -> None:
    def at(probability: float, training: bool) -> tuple[Tensor, ...]:
        own = backbone('dinov2', sigma(dropout=probability)).train(training)
        shake(own)
        return own(images())

    assert same(at(0.5, False), at(0.0, True))
    assert not same(at(0.5, True), at(0.5, False))


# --- Where adapters go, how wide they are, how many parameters they have. ---


@pytest.mark.parametrize(
    ('position', 'blocks', 'expected'),
    [
        ('after_block', None, [(i, 'after_block') for i in range(3)]),
        ('both', [-1], [(2, 'after_attention'), (2, 'after_mlp')]),
        (['parallel_mlp'], [2, 0], [(0, 'parallel_mlp'), (2, 'parallel_mlp')]),
    ],
)
def test_places(position: str, blocks: list | None, expected: list) -> None:
    tuner = SIGMA(bottleneck=4, position=position, blocks=blocks)
    assert list(attach(tuner, [block()] * 3)) == expected


def test_width_per_stage() -> None:
    adapters = attach(SIGMA(bottleneck=[4, 8]), [block(6, 0), block(12, 1)])
    shapes = [tuple(adapter.down.weight.shape) for adapter in adapters.values()]
    assert shapes == [(4, 6), (8, 12)]
    with pytest.raises(InvalidSettingError, match='names 2 stages, but this trunk has 1'):
        attach(SIGMA(bottleneck=[4, 8]), [block()])


def test_parameters_of_one_adapter() -> None:
    """By hand, at the defaults and SigLIP2-B's width, without a class token."""
    c, r = 768, 64
    adapter = attach(SIGMA(), [block(c)])[0, 'after_block']
    parts = {'norm': 2 * c, 'down': c * r + r, 'up': r * c + c}
    parts['fusion.scales'] = r * (9 + 25 + 49 + 3)
    parts['fusion.mix'] = r * r + r
    parts['fusion.gate'] = (r * 16 + 16) + (16 * 3 * r + 3 * r)
    parts['modulation'] = (r * 48 + 48) + (48 * 2 * r + 2 * r)
    for name, expected in parts.items():
        assert sum(p.numel() for p in adapter.get_submodule(name).parameters()) == expected, name
    assert sum(p.numel() for p in adapter.parameters()) == sum(parts.values())


def test_budget() -> None:
    """1.72 % of SigLIP2-B/16's image trunk without its pooling head, as the paper states."""
    trunk = {
        'type': 'TimmViT',
        'model_name': 'vit_base_patch16_siglip_512',
        'weights': 'random',
    }
    own = AdaptedBackbone(trunk, {'type': 'SIGMA'})
    upstream = timm.create_model('vit_base_patch16_siglip_512', num_classes=0, global_pool='')
    total = sum(p.numel() for p in own.trunk.parameters())
    assert total == sum(p.numel() for p in upstream.parameters())
    trained = sum(p.numel() for p in own.parameters() if p.requires_grad)
    assert 100 * trained / total == pytest.approx(1.72, abs=0.03)


# --- Errors. ---


@pytest.mark.parametrize(
    ('settings', 'error', 'parts'),
    [
        ({'gate': 'chanel'}, UnknownNameError, ["'chanel'", "mean 'channel'", 'spatial']),
        ({'fusion': 'x'}, UnknownNameError, ["'x'", 'adaptive, none']),
        ({'modulation': 'local'}, UnknownNameError, ["'local'", 'global, none']),
        ({'prefix_tokens': 'drop'}, UnknownNameError, ["'drop'", 'share, skip']),
        ({'form': 'quick'}, UnknownNameError, ["'quick'", 'fast, plain']),
        ({'position': 'after_atention'}, UnknownNameError, ["mean 'after_attention'", 'both']),
        ({'kernel_sizes': [3, 4]}, InvalidSettingError, ['odd', '[3, 4]', '[3, 5, 7]']),
        ({'kernel_sizes': []}, InvalidSettingError, ['odd', '[]']),
        ({'kernel_sizes': [-3]}, InvalidSettingError, ['positive', '[-3]']),
        ({'bottleneck': 0}, InvalidSettingError, ['bottleneck', '>= 1', '0']),
        ({'bottleneck': [8, 1.5]}, InvalidSettingError, ['bottleneck', '1.5']),
        ({'gate_hidden': -1}, InvalidSettingError, ['gate_hidden', '-1']),
        ({'modulation_hidden': 0}, InvalidSettingError, ['modulation_hidden', '0']),
        ({'scale': 'learnt'}, InvalidSettingError, ["'learned'", "'learnt'"]),
        ({'dropout': 1}, InvalidSettingError, ['[0, 1)', '1']),
        ({'dropout': -0.1}, InvalidSettingError, ['[0, 1)', '-0.1']),
        ({'blocks': [0, 2]}, InvalidSettingError, ['blocks [0, 2]', '2 blocks', '0 to 1']),
        ({'blocks': [0, -2]}, InvalidSettingError, ['[0, -2]', 'once']),
        ({'blocks': []}, InvalidSettingError, ['[]', 'at least one']),
    ],
    ids=str,
)
def test_errors(settings: dict, error: type, parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        backbone('dinov2', sigma(**settings))
    assert all(part in str(caught.value) for part in parts), caught.value


def test_only_what_changes_no_function_is_left_out_of_the_record() -> None:
    names = {field.name for field in dataclasses.fields(SIGMA)}
    assert names - SIGMA().settings().keys() == {'dropout', 'form'}
