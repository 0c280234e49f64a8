"""``tools/module.py``: adapters alone, in turns, on small shapes."""

import json

from mmsigma.tuners.mona import MonaAdapter


def test_forms_in_turns(place, capsys):
    out = place.root / 'module.json'
    options = ['--repeats', '3', '--threads', '1', '--clock', 'cpu', '--json', out]
    assert place.call('module', '--shapes', '32:3x5:2', '48:4x4:1', *options) == 0
    shapes = json.loads(out.read_text())['shapes']
    assert list(shapes) == ['32:3x5:2', '48:4x4:1']
    for width, result in zip((32, 48), shapes.values(), strict=True):
        assert list(result) == [
            'Mona, two, plain',
            'Mona, two, fast',
            'SIGMA, plain',
            'SIGMA, fast',
        ]
        assert result['Mona, two, plain']['speed'] == 1
        one = sum(p.numel() for p in MonaAdapter(width, 64, 0.0, False, 'fast').parameters())
        assert result['Mona, two, fast']['parameters'] == 2 * one
        assert all(len(row['all_seconds']) == 3 for row in result.values())
    assert '| SIGMA, fast |' in capsys.readouterr().out


def test_what_it_refuses(place, capsys):
    assert place.call('module', '--shapes', '32:3x5') == 2
    assert 'WIDTH:HEIGHTxWIDTH:BATCH' in capsys.readouterr().err
    assert place.call('module', '--clock', 'cpu', '--threads', '2') == 2
