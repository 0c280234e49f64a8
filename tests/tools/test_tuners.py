"""Every tuner trains, evaluates and reloads through the launcher, in its own CamVid config."""

import pytest
import timm
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from tests.fixtures import MODEL, ROOT, TINY, load, logged
from tests.sample import sampled

# As wide as the widest bottleneck.
WIDE = {**TINY, 'embed_dim': 64}
LEAF = ROOT / 'configs/camvid'
ENDING = '_dinov2-s_fcn_camvid-448x336'
NAMES = sorted(p.stem for p in (ROOT / 'configs/_base_/tuners').glob('*.py'))
EXTRA = """
model = dict(
    backbone=dict(trunk=dict(model_args={args!r}, weights={weights!r}), out_indices=None),
    decode_head=dict(in_channels=[64] * 4, channels=16),
)
"""


@pytest.fixture(scope='module')
def extra(place):
    path = place.root / 'wide.safetensors'
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_file(timm.create_model(MODEL, num_classes=0, **WIDE).state_dict(), path)
    return EXTRA.format(args=WIDE, weights=str(path))


def test_every_tuner_has_a_config():
    leaves = [p for p in LEAF.glob(f'*{ENDING}.py') if Config.fromfile(p).trunk.model_name == MODEL]
    assert sorted(p.stem.removesuffix(ENDING) for p in leaves) == NAMES


# One for every way to be in a trunk.
QUICK = {'sigma', 'ssf', 'vpt-deep', 'bitfit', 'rein', 'lora', 'frozen'}


@pytest.mark.parametrize('name', sampled(NAMES, QUICK.__contains__))
def test_trains_and_reloads(name, place, extra):
    config = place.config(extra, leaf=LEAF / f'{name}{ENDING}.py', iters=8, interval=8)
    assert place.call('train', config, '--work-dir', name) == 0
    losses = logged(place.root / name)
    assert len(losses) == 8
    assert losses[8] < 0.9 * losses[1]
    checkpoint = place.root / name / 'iter_8.pth'
    state = load(checkpoint)['state_dict']
    inside = [n for n in state if n.startswith('backbone.') and not n.endswith('_extra_state')]
    assert bool(inside) == (name != 'frozen')
    assert place.call('test', config, checkpoint, '--work-dir', f'{name}-test') == 0
