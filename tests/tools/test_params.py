"""tools/params.py: what it counts, and that it needs nothing but the config."""

import json

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmsigma.analysis import params
from mmsigma.errors import InvalidSettingError
from tests.fixtures import ROOT

KEYS = {'trunk', 'adapters', 'neck', 'head', 'trained', 'share_percent'}
SIGLIP2 = 'configs/camvid/sigma_siglip2-b_fcn_camvid-448x336.py'


def test_siglip2_from_the_command_line(place):
    """The share that the paper gives, on a machine with neither weights nor data."""
    empty = place.root / 'empty'
    empty.mkdir()
    env = {'MMSIGMA_DATA': str(empty), 'MMSIGMA_WEIGHTS': str(empty)}
    result = place.spawn('params', ROOT / SIGLIP2, '--json', **env)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout.splitlines()[-1])
    assert set(counts) == KEYS
    assert counts['share_percent'] == pytest.approx(1.72, abs=0.03)
    assert counts['neck'] == 0
    assert counts['trained'] == counts['adapters'] + counts['head']
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(('tuner', 'share'), [('full', 100), ('frozen', 0)])
def test_bounds(tuner, share):
    config = Config.fromfile(ROOT / f'configs/camvid/{tuner}_dinov2-s_fcn_camvid-448x336.py')
    counts = params.count(config)
    assert counts['share_percent'] == share
    assert counts['adapters'] == 0
    assert counts['trained'] == counts['head'] + (counts['trunk'] if tuner == 'full' else 0)


def test_sums_equal_the_model(place):
    config = Config.fromfile(ROOT / 'configs/camvid/sigma_dinov2-s_upernet_camvid-448x336.py')
    counts = params.count(config)
    init_default_scope('mmseg')
    config.model.backbone.trunk.weights = 'random'
    model = MODELS.build(config.model)
    total = sum(p.numel() for p in model.parameters())
    assert total == counts['trunk'] + counts['adapters'] + counts['neck'] + counts['head']
    assert counts['neck'] == sum(p.numel() for p in model.neck.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == counts['trained']


def test_counting_changes_nothing_in_the_config():
    config = Config.fromfile(ROOT / 'configs/camvid/sigma_dinov2-s_fcn_camvid-308x224.py')
    before = config.model.to_dict()
    params.count(config)
    assert config.model.to_dict() == before


def test_table(capsys, place):
    assert place.call('params', place.config()) == 0
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[0] for line in lines] == [
        'trunk', 'adapters', 'neck', 'head', 'trained', 'share_percent',
    ]  # fmt: skip
    assert lines[-1].endswith('of the trunk')


def test_another_backbone_is_an_error():
    model = dict(type='EncoderDecoder', backbone=dict(type='ResNet', depth=50))
    with pytest.raises(InvalidSettingError, match="backbone is 'ResNet', not mmsigma"):
        params.count(Config(dict(model=model, default_scope='mmseg')))


def test_trunk_configs(place):
    """A trunk alone is counted with SIGMA; several configs make a table."""
    trunks = [ROOT / f'configs/_base_/trunks/{name}.py' for name in ('siglip2-b', 'dinov3-7b')]
    result = place.spawn('params', *trunks)
    assert result.returncode == 0, result.stderr
    first, second = (line.split() for line in result.stdout.splitlines()[-2:])
    assert first == ['siglip2-b', '86,433,024', '1,488,384', '1.72', '%']
    assert second[0] == 'dinov3-7b' and second[1].startswith('6,71')
    result = place.spawn('params', *trunks, '--json')
    assert set(json.loads(result.stdout.splitlines()[-1])) == {'siglip2-b', 'dinov3-7b'}
