"""Names in configs: scopes, one import line, typed errors; and that yours is one file."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmsigma import registry
from mmsigma.errors import MMSigmaError, UnknownNameError, WeightsError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.tiny import TUNERS, loss, same, shake, sigma, trunk_config

BACKBONE = {'type': 'mmsigma.AdaptedBackbone', 'trunk': trunk_config(), 'tuner': sigma()}
NECK = {'type': 'mmsigma.SimpleFeaturePyramid', 'in_channels': [32, 32], 'out_channels': 16}
MODELS = {
    'mmseg': {
        'type': 'EncoderDecoder',
        'backbone': BACKBONE,
        'decode_head': {'type': 'FCNHead', 'in_channels': 32, 'channels': 8, 'num_classes': 3},
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    },
    'mmdet': {
        'type': 'RetinaNet',
        'backbone': BACKBONE,
        'neck': NECK,
        'bbox_head': {
            'type': 'RetinaHead',
            'num_classes': 3,
            'in_channels': 16,
            'anchor_generator': {
                'type': 'AnchorGenerator',
                'scales': [4],
                'ratios': [1.0],
                'strides': [4, 8, 16, 32],
            },
        },
    },
}

FRESH = """
import json, sys, torch
torch.set_num_threads(1)
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
config = Config.fromfile(sys.argv[1])
init_default_scope(config.default_scope)
model = MODELS.build(config.model)
backbone = type(model.backbone)
maps = model.extract_feat(torch.randn(1, 3, 57, 83))
print(json.dumps([f'{backbone.__module__}.{backbone.__name__}', [list(m.shape) for m in maps]]))
"""


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, '-c', script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize('scope', MODELS)
def test_one_import_line_is_enough_in_a_fresh_interpreter(scope: str, tmp_path: Path) -> None:
    config = {
        'default_scope': scope,
        'custom_imports': {'imports': ['mmsigma'], 'allow_failed_imports': False},
        'model': MODELS[scope],
    }
    Config(config).dump(tmp_path / 'config.py')
    built, shapes = json.loads(run(FRESH, str(tmp_path / 'config.py')))
    assert built == 'mmsigma.models.adapted_backbone.AdaptedBackbone'
    if scope == 'mmseg':
        assert shapes == [[1, 32, 5, 6]] * 2
    else:
        assert shapes == [[1, 16, *size] for size in ((20, 24), (10, 12), (5, 6), (3, 3))]


def test_importing_is_light_and_heavy_parts_wait() -> None:
    script = f"""
import sys, mmsigma
early = [name for name in sys.modules if name.startswith('mmsigma.')]
from mmsigma.registry import MODELS
MODELS.build({BACKBONE!r})
heavy = [name for name in ('mmpretrain', 'mmseg', 'mmdet', 'mmcv.ops') if name in sys.modules]
print(heavy, [n for n in ('models', 'engine') if f'mmsigma.{{n}}' in early])
"""
    assert run(script) == '[] []'


@pytest.mark.parametrize('scope', ['mmsigma', 'mmengine'])
def test_builds_under_any_default_scope(scope: str) -> None:
    with DefaultScope.overwrite_default_scope(scope):
        own = mmengine.registry.MODELS.build(ConfigDict(BACKBONE))
    assert isinstance(own, AdaptedBackbone)


@pytest.mark.parametrize('name', ['SIGMA', 'mmsigma.SIGMA'])
def test_scope_of_a_tuner_is_optional(name: str) -> None:
    own = mmengine.registry.MODELS.build({**BACKBONE, 'tuner': {**sigma(), 'type': name}})
    assert own.tuner.settings()['type'] == 'SIGMA'


@pytest.mark.parametrize(
    ('change', 'error', 'part'),
    [
        ({'tuner': {'type': 'SIGNA'}}, UnknownNameError, "Did you mean 'SIGMA'?"),
        ({'tuner': sigma(gate='x')}, UnknownNameError, "'x'"),
        ({'trunk': trunk_config(weights='no.pth')}, WeightsError, "'no.pth'"),
    ],
)
def test_errors_reach_the_user_as_what_they_are(
    change: dict, error: type[MMSigmaError], part: str
) -> None:
    with pytest.raises(error) as caught:
        mmengine.registry.MODELS.build({**BACKBONE, **change})
    assert type(caught.value) is error
    assert part in str(caught.value)


# The whole of what a user writes for a method and for a family of their own.
OWN_TUNER = """
from dataclasses import dataclass

from torch import nn

from mmsigma.registry import TUNERS
from mmsigma.models.tuners.base import Tuner


class Bias(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bias = nn.Parameter(nn.init.zeros_(nn.Linear(1, width).bias))

    def forward(self, tokens, layout):
        return self.bias.expand_as(tokens)


@TUNERS.register_module()
@dataclass
class OwnTuner(Tuner):
    places: tuple = (('after_mlp', 1), ('parallel_attention', 0))

    def attach(self, context):
        for position, index in self.places:
            context.put(index, position, Bias(context.blocks[index].width))
        return [context.blocks[0].module.scale]
"""
OWN_TRUNK = """
import torch
from torch import nn

from mmsigma.models.trunks.block import Block, residual
from mmsigma.models.trunks.tokens import TokenState, TokenLayout
from mmsigma.registry import TRUNKS
from mmsigma.models.trunks.base import Trunk


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.ones(()))


@TRUNKS.register_module()
class OwnTrunk(Trunk):
    patch = 8

    def __init__(self, weights, width=16, mode='eval', dtype='float32'):
        model = nn.Sequential(nn.Conv2d(3, width, 8, 8), Layer(width), Layer(width))
        super().__init__(model, f'own/{width}', weights != 'random', mode, dtype)

    def embed(self, images):
        grid = self.model[0](images.to(self.dtype))
        return grid.flatten(2).transpose(1, 2), TokenState(TokenLayout(*grid.shape[2:]))

    def blocks(self):
        return [
            Block(
                m,
                m.one.out_features,
                residual(lambda x, m=m: m.one(m.norm1(x)) * m.scale),
                lambda y, state, m=m: m.two(m.norm2(y)),
                stride=8,
                norms=(m.norm1, m.norm2),
                prompts=True,
            )
            for m in self.model[1:]
        ]

    def norm(self, tokens, index):
        return tokens
"""


@pytest.fixture
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user's two files, imported as a config imports them; forgotten after the test."""
    for name in ('TUNERS', 'TRUNKS'):
        known = getattr(registry, name)
        known.import_from_location()
        monkeypatch.setattr(known, '_module_dict', dict(known.module_dict))
    (tmp_path / 'own_tuner.py').write_text(OWN_TUNER)
    (tmp_path / 'own_trunk.py').write_text(OWN_TRUNK)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / 'config.py'
    path.write_text("custom_imports = dict(imports=['mmsigma', 'own_tuner', 'own_trunk'])")
    Config.fromfile(path)
    yield
    for name in ('own_tuner', 'own_trunk'):
        del sys.modules[name]


OWN = {'type': 'OwnTrunk', 'weights': 'given'}


@pytest.mark.usefixtures('own_parts')
@pytest.mark.parametrize('tuner', ['OwnTuner', *registry.TUNERS.module_dict])
def test_yours_is_one_file(tuner: str) -> None:
    settings = {**TUNERS.get(tuner, {'type': tuner})}
    if tuner == 'HFPeft':
        settings['target_modules'] = ['one', 'two']

    def make() -> AdaptedBackbone:
        torch.manual_seed(0)
        config = {'type': 'mmsigma.AdaptedBackbone', 'trunk': OWN, 'tuner': settings}
        return mmengine.registry.MODELS.build(config).eval()

    own, x = make(), torch.randn(2, 3, 20, 28)
    assert [tuple(m.shape) for m in own(x)] == [(2, 16, 3, 4)] * 2
    if tuner != 'Frozen':
        shake(own)
        loss(own(x)).backward()
        assert all(p.grad is not None for p in own.parameters() if p.requires_grad)
    if tuner == 'OwnTuner':
        assert {n for n, p in own.named_parameters() if p.requires_grad} == {
            'trunk.model.1.scale',
            'adapters.at.0.parallel_attention.bias',
            'adapters.at.1.after_mlp.bias',
        }
    twin = make()
    twin.load_state_dict(own.state_dict())  # settings with nested tuples go through JSON
    assert same(twin(x), own(x))


@pytest.mark.usefixtures('own_parts')
def test_yours_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'OwnTuner'.*Frozen.*SIGMA"):
        mmengine.registry.MODELS.build({**BACKBONE, 'tuner': {'type': 'OwnTune'}})


def test_fixture_leaves_nothing_behind() -> None:
    assert 'OwnTuner' not in registry.TUNERS.module_dict
    assert 'OwnTrunk' not in registry.TRUNKS.module_dict
