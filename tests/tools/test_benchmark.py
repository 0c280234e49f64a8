"""``tools/benchmark.py`` on small images: whole models of both frameworks, in turns."""

import json

import pytest

from tests.fixtures import ROOT

LEAVES = {
    'mmseg': 'configs/camvid/{}_dinov2-s_fcn_camvid-308x224.py',
    'mmdet': 'configs/coco_slice/{}_dinov2-s_mask-rcnn-small_coco-slice.py',
}
SMALL = ['--size', '84x112', '--repeats', '2', '--threads', '1']


@pytest.mark.slow
@pytest.mark.parametrize('framework', LEAVES)
def test_models_in_turns(framework, place):
    out = place.root / f'{framework}.json'
    configs = [ROOT / LEAVES[framework].format(tuner) for tuner in ('full', 'frozen')]
    options = [*SMALL, '--batch', '2', '--channels-last', '--chunked-loss', '--json', out]
    done = place.spawn('benchmark', *configs, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report['header']['size'] == [84, 112] and report['header']['threads'] == 1
    full, frozen = (report['configs'][config.stem] for config in configs)
    chunked = {f'{config.stem}, chunked-loss' for config in configs}
    assert chunked & report['configs'].keys() == (chunked if framework == 'mmseg' else set())
    last = report['configs'][f'{configs[0].stem}, channels-last']
    assert last['train']['seconds'] > 0
    assert (last['peak_memory_mib'] is None) == (full['peak_memory_mib'] is None)
    assert last['trained_parameters'] == full['trained_parameters']
    assert full['trained_parameters'] > 22_000_000 > frozen['trained_parameters'] > 0
    for kind in ('train', 'inference'):
        assert full[kind]['ratio'] == 1 and len(full[kind]['all_seconds']) == 2
        assert full[kind]['ratio_to_floor'] is None  # no config here has it
        assert full[kind]['images_per_second'] == pytest.approx(2 / full[kind]['seconds'])
        assert frozen[kind]['seconds'] > 0
        assert f'{frozen[kind]["ratio"]:.3f}' in done.stdout
    assert full['peak_memory_mib'] is None or full['peak_memory_mib'] > frozen['peak_memory_mib']
    # ViT-S/14: 48 patches of 588 values and a class token, 12 blocks, 384 wide.
    n, c = 49, 384
    forward = 2 * (12 * (24 * n * c * c + 4 * n * n * c) + 2 * 48 * 588 * c) / 1e12
    assert full['trunk_tflops'] == pytest.approx(forward, rel=1e-6)
    assert full['train']['tflops'] - frozen['train']['tflops'] > 1.9 * forward  # the way back
    rate = report['header']['peak_tflops_per_second']
    reached = full['train']['tflops'] / full['train']['seconds'] / rate
    assert full['share_of_peak'] == pytest.approx(reached) and reached > 0


@pytest.mark.slow
def test_tuners_of_one_config_against_the_floor_with_a_profile(place):
    config, out = ROOT / LEAVES['mmseg'].format('sigma'), place.root / 'tuners.json'
    options = [*SMALL, '--no-inference', '--profile', '--json', out]
    done = place.spawn('benchmark', config, '--tuners', 'full', 'bitfit', *options)
    assert done.returncode == 0, done.stderr
    full, floor = json.loads(out.read_text())['configs'].values()
    assert full['trained_parameters'] > 22_000_000 > floor['trained_parameters']
    assert floor['train']['ratio_to_floor'] == 1
    assert full['train']['ratio_to_floor'] > 1 > floor['train']['ratio']
    for row in (full, floor):
        spent = row['operators']
        assert 'aten::addmm' in spent and list(spent.values()) == sorted(spent.values())[::-1]
        assert '| aten::addmm |' in done.stdout
    assert 'inference' not in full


def test_what_it_refuses(place, capsys):
    config = ROOT / LEAVES['mmseg'].format('frozen')
    assert place.call('benchmark', config, config) == 1
    assert 'named twice' in capsys.readouterr().err
    assert place.call('benchmark', config, '--tuners', 'full', 'full') == 1
    assert 'named twice' in capsys.readouterr().err
    assert place.call('benchmark', config, '--size', '84') == 2
    assert 'is no HEIGHTxWIDTH' in capsys.readouterr().err
