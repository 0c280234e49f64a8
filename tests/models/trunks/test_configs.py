"""Every trunk config: its facts against the model's own, and its features against upstream's."""

import pytest
import timm
import torch
import trunks
from mmengine.config import Config
from timm.models.beit import Beit

from mmsigma.apis import params
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks import TimmBEiT, TimmEVA, TimmHiera, TimmSwin, TimmViT
from tests.fixtures import ROOT
from tests.sample import sampled

PATHS = sorted((ROOT / 'configs/_base_/trunks').glob('*.py'))
FACTS = {'trunk', 'out_indices', 'widths', 'strides', 'normalisation', 'release'}
COUNT = 93
# Models of more parameters run two blocks only.
RUNS = 120e6


def parse(path):
    return Config.fromfile(path)


TIMM = [path for path in PATHS if parse(path).trunk.type.startswith('Timm')]


def test_there_is_one_per_published_model():
    assert len(PATHS) == COUNT
    models = [str(parse(path).trunk.to_dict()) for path in PATHS]
    assert len(set(models)) == COUNT


# Small ones, and one of every library.
QUICK = {
    'dinov2-s',
    'dinov3-s',
    'eva02-ti',
    'hiera-t',
    'sam2-hiera-t',
    'swin-t',
    'mmpretrain-swin-t',
}


@pytest.mark.parametrize(
    'path', sampled(PATHS, lambda path: path.stem in QUICK), ids=lambda p: p.stem
)
def test_facts(path):
    config = parse(path)
    assert {k for k in config if k != 'os'} == FACTS
    assert set(config.release) == {'input_size', 'licence', 'source'}
    assert len(path.read_text().splitlines()) <= 30
    own = params.of_trunk(config)
    assert list(own.out_indices) == config.out_indices
    assert (own.out_channels, own.out_strides) == (config.widths, config.strides)
    assert config.release.source.startswith('https://')
    if 'model_name' not in config.trunk:
        return
    release = timm.get_pretrained_cfg(config.trunk.model_name)
    for key in ('mean', 'std'):
        own_values = [255 * value for value in getattr(release, key)]
        assert config.normalisation[key] == pytest.approx(own_values, abs=1e-3)
    assert config.release.input_size == release.input_size[-1]
    assert config.release.licence == release.license
    assert config.release.source == f'https://huggingface.co/{release.hf_hub_id}'


def test_the_share_of_the_paper():
    counts = params.count(parse(ROOT / 'configs/_base_/trunks/siglip2-b.py'))
    assert counts['share_percent'] == pytest.approx(1.72, abs=0.03)


@pytest.mark.slow
def test_the_page_is_up_to_date():
    page = (ROOT / 'docs/trunks.md').read_text()
    for path in PATHS:
        assert trunks.row(path) in page


def at_true_width(config):
    """The config's own model with random weights, cut to two blocks where it is large."""
    trunk = {**config.trunk, 'weights': 'random'}
    with torch.device('meta'):
        shapes = AdaptedBackbone(trunk, {'type': 'Frozen'})
    if sum(p.numel() for p in shapes.parameters()) > RUNS:
        short = {'TimmHiera': {'stages': (1, 1, 1, 1)}, 'TimmHieraDet': {'stages': (1, 1, 1, 1)}}
        short |= {'TimmSwin': {'depths': (2, 2, 2, 2)}, 'TimmGeneric': {'depths': (1, 1, 1, 1)}}
        trunk['model_args'] = short.get(trunk['type'], {'depth': 2})
    torch.manual_seed(0)
    return AdaptedBackbone(trunk, {'type': 'SIGMA'}).eval()


@pytest.mark.slow
@pytest.mark.parametrize('path', TIMM, ids=lambda p: p.stem)
def test_equals_upstream_at_true_width(path):
    """With SIGMA at its start, to the bit, on an image that is neither square nor whole tokens."""
    own = at_true_width(parse(path))
    size = (2 * own.trunk.multiple + 3, 3 * own.trunk.multiple)
    if isinstance(own.trunk, TimmHiera):  # upstream's own runs at its native size alone
        size = own.trunk.model.unroll.size[0] * own.trunk.patch, 222
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        ours, theirs = own(images), upstream(own, own.trunk.pad(images))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b[..., : a.shape[-2], : a.shape[-1]])


def upstream(own, images):
    """The maps of the very same model by upstream's own code."""
    model, plain = own.trunk.model, own.trunk.blocks()[-1].stage == 0
    if isinstance(model, Beit):
        model.set_input_size(img_size=images.shape[-2:])
    return model.forward_intermediates(
        images,
        indices=list(own.out_indices) if plain else None,
        norm=isinstance(own.trunk, TimmViT | TimmEVA | TimmBEiT | TimmSwin),
        intermediates_only=True,
    )
