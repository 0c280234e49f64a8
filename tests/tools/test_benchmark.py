"""``tools/benchmark.py`` on small images: whole models of both frameworks, in turns."""

import json

import pytest

from tests.fixtures import ROOT

LEAVES = {
    'mmseg': 'configs/camvid/{}_dinov2-s_fcn_camvid-308x224.py',
    'mmdet': 'configs/coco_slice/{}_dinov2-s_mask-rcnn-small_coco-slice.py',
}


@pytest.mark.parametrize('framework', LEAVES)
def test_models_in_turns(framework, place):
    out = place.root / f'{framework}.json'
    configs = [ROOT / LEAVES[framework].format(tuner) for tuner in ('full', 'frozen')]
    options = ['--size', '84x112', '--repeats', '2', '--threads', '1', '--bf16', '--json', out]
    done = place.spawn('benchmark', *configs, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report['header']['size'] == [84, 112] and report['header']['threads'] == 1
    full, frozen = (report['configs'][config.stem] for config in configs)
    assert full['trained_parameters'] > 22_000_000 > frozen['trained_parameters'] > 0
    for kind in ('train', 'inference'):
        assert full[kind]['ratio'] == 1 and len(full[kind]['all_seconds']) == 2
        assert frozen[kind]['seconds'] > 0
        assert f'{frozen[kind]["ratio"]:.3f}' in done.stdout
    assert full['peak_memory_mib'] is None or full['peak_memory_mib'] > frozen['peak_memory_mib']


def test_what_it_refuses(place, capsys):
    config = ROOT / LEAVES['mmseg'].format('frozen')
    assert place.call('benchmark', config, config) == 1
    assert 'named twice' in capsys.readouterr().err
    assert place.call('benchmark', config, '--size', '84') == 2
    assert 'is no HEIGHTxWIDTH' in capsys.readouterr().err
