"""tools/params.py: what it counts, and that it needs nothing but the config."""

import json
import re
import shlex

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmsigma.apis import params
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import pages
from mmsigma.registry import TUNERS
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


def test_what_sits_inside_the_trunk_is_no_part_of_it():
    """LoRA's matrices are inside the trunk's modules: they count as adapters, not as trunk."""
    config = Config.fromfile(ROOT / 'configs/camvid/sigma_dinov2-s_fcn_camvid-448x336.py')
    expected = params.count(config)['trunk']
    lora = dict(type='HFPeft', peft_type='LORA', r=2, target_modules=['attn.qkv'])
    config.model.backbone.tuner = lora
    counts = params.count(config)
    assert counts['trunk'] == expected
    assert counts['adapters'] == 12 * 2 * 4 * 384 == counts['trained'] - counts['head']
    assert counts['share_percent'] == pytest.approx(100 * counts['adapters'] / expected, abs=1e-3)


def trunk(name):
    return ROOT / f'configs/_base_/trunks/{name}.py'


def tuner(name):
    return ROOT / f'configs/_base_/tuners/{name}.py'


def test_tuners_on_trunks(place):
    """One table; what a trunk refuses is a dash, with the reason below, once."""
    files = [tuner(name) for name in ('mona', 'bitfit', 'vpt-deep', 'vpt-shallow')]
    arguments = (trunk('siglip2-b'), trunk('sam-b'), '--tuners', *files)
    result = place.spawn('params', *arguments)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == '| tuner | siglip2-b (86.4 M) | sam-b (88.9 M) |'
    assert [line.split(' |')[0] for line in lines[2:6]] == [
        '| `mona`', '| `bitfit`', '| `vpt-deep`', '| `vpt-shallow`',
    ]  # fmt: skip
    assert lines[2].startswith('| `mona` | 3.11 % (2.68 M) | 3.02 %')
    assert lines[4] == '| `vpt-deep` | 0.53 % (0.46 M) | – |'
    assert lines[6] == ''
    (reason,) = lines[7:]
    assert reason.startswith('- `vpt-deep`, `vpt-shallow` on sam-b: Block 0 of this trunk')
    assert 'takes no further tokens' in reason

    found = json.loads(place.spawn('params', *arguments, '--json').stdout)
    assert set(found) == {'siglip2-b', 'sam-b'}
    of_siglip2 = found['siglip2-b']['tuners']
    assert found['siglip2-b']['trunk'] == 86_433_024
    assert of_siglip2['bitfit']['adapters'] == 0 < of_siglip2['bitfit']['trained']
    assert of_siglip2['mona']['adapters'] == of_siglip2['mona']['trained']
    assert 'Use a plain trunk' in found['sam-b']['tuners']['vpt-deep']['refused']


def test_every_tuner_by_default(place, capsys):
    assert place.call('params', trunk('dinov2-s'), '--tuners') == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    names = {path.stem for path in (ROOT / 'configs/_base_/tuners').glob('*.py')}
    assert {line.split('`')[1] for line in lines} == names
    assert not any('–' in line for line in lines)


@pytest.mark.parametrize(
    ('configs', 'words'),
    [
        ((trunk('dinov2-s'), '--tuners', trunk('dinov2-s')), ['dinov2-s.py has no `tuner`']),
        ((tuner('mona'), '--tuners'), ['mona.py has no `trunk`', 'configs/_base_/trunks']),
        ((trunk('dinov2-s'), '--tuners', tuner('mone')), ['no config', 'mone.py', 'mona.py']),
        ((trunk('dinov2-s'), '--tuners', '--write', ROOT / 'LICENSE'), ['no place', '<!-- end']),
    ],
    ids=['no tuner', 'no trunk', 'no file', 'no place'],
)
def test_wrong_arguments(place, capsys, configs, words):
    assert place.call('params', *configs) == 1
    error = capsys.readouterr().err
    assert all(word in error for word in words), error


def test_writing_needs_the_table_of_tuners(place):
    result = place.spawn('params', trunk('dinov2-s'), '--write', 'page.md')
    assert result.returncode == 2 and '--write needs --tuners' in result.stderr


def test_a_page_is_filled(place):
    page = place.root / 'page.md'
    begin = '<!-- table: python tools/params.py --write page.md -->\n'
    page.write_text(f'# Before\n\n{begin}old\n<!-- end -->\n\nAfter <!-- end -->\n')
    arguments = (trunk('dinov2-s'), '--tuners', tuner('full'), '--write', page)
    assert place.call('params', *arguments) == 0
    assert page.read_text() == (
        f'# Before\n\n{begin}\n| tuner | dinov2-s (22.1 M) |\n|---|--:|\n'
        '| `full` | 100.00 % (22.06 M) |\n\n<!-- end -->\n\nAfter <!-- end -->\n'
    )


PAGE = ROOT / 'docs/tuners.md'


@pytest.mark.slow
def test_the_page_is_up_to_date():
    """Its table is what the command in it writes."""
    text = PAGE.read_text()
    command = shlex.split(re.search(r'<!-- table: (python tools/params.py .*) -->', text)[1])
    assert command[-3:] == ['--tuners', '--write', 'docs/tuners.md']
    trunks = {(ROOT / path).stem: Config.fromfile(ROOT / path) for path in command[2:-3]}
    assert set(trunks) == {'swin-b', 'swin-l', 'siglip2-b', 'dinov2-s', 'dinov2-b', 'dinov2-l'}
    tuners = {
        path.stem: Config.fromfile(path).tuner
        for path in sorted((ROOT / 'configs/_base_/tuners').glob('*.py'))
    }
    table = params.share_table(params.shares(trunks, tuners))
    assert pages.fill(text, 'tools/params.py', table) == text


def test_every_tuner_is_on_the_page():
    TUNERS.import_from_location()
    rows = re.findall(
        r'^\| `((?!type)\w+)` \|', PAGE.read_text().partition('## Four')[0], re.MULTILINE
    )
    own = [n for n, c in TUNERS.module_dict.items() if c.__module__.startswith('mmsigma')]
    assert sorted(rows) == sorted(own)
