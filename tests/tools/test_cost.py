"""``tools/cost.py`` on models of milliseconds, and what it counts."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmsigma.analysis.kept import kept
from mmsigma.analysis.step_cost import count, exponent
from mmsigma.backbone import AdaptedBackbone

ARGS = {'depth': 2, 'embed_dim': 64, 'num_heads': 2}
TRUNK = dict(type='TimmViT', model_name='vit_small_patch16_224', model_args=ARGS)


@pytest.mark.parametrize('tuner', ['Full', 'BitFit', 'SIGMA'])
def test_what_is_counted_is_what_a_step_takes(tuner: str) -> None:
    shape = (2, 3, 40, 64)
    (found,) = count(TRUNK, dict(type=tuner), [shape])
    model = AdaptedBackbone({**TRUNK, 'weights': 'random'}, dict(type=tuner)).train()
    images = torch.randn(shape)
    assert found.kept == kept(model, images) > 0
    parameters = list(model.parameters())
    assert found.parameters == sum(p.numel() for p in parameters)
    assert found.weights == 4 * found.parameters
    with FlopCounterMode(display=False) as counter:  # knows no attention of CPUs
        sum(m.square().mean() for m in model(images)).backward()
    tokens, blocks = 3 * 4 + 1, 2
    product = 2 * 2 * tokens**2 * 64  # of all heads, 2 images
    # 2 products forward and 5 backward; SIGMA behind the first block sends no gradient into it.
    assert found.flops - counter.get_total_flops() == product * (
        2 * blocks + 5 * (1 if tuner == 'SIGMA' else blocks)
    )


def test_exponent() -> None:
    sizes = [2, 4, 8]
    assert exponent(sizes, [12, 48, 192]) == pytest.approx(2)
    assert exponent(sizes, [5, None, 20]) == pytest.approx(1)
    assert exponent(sizes, [5, None, None]) is None
    assert exponent([], []) is None


def check_counts(place, out, report, options) -> None:
    """A second run takes the counts of the first, and times anew."""
    again = place.root / 'again.json'
    few = [*options[: options.index('--sizes')], '--sizes', '32', '64', '--repeats', '2']
    done = place.spawn('cost', *few, '--counts', out, '--json', again)
    assert done.returncode == 0, done.stderr
    assert 'counted' not in done.stderr
    found = json.loads(again.read_text())['points']
    assert [p['tflops'] for p in found] == [
        p['tflops'] for p in report['points'] if p['side'] < 512
    ]
    assert all(len(p['all_seconds']['SIGMA']) == 2 for p in found)
    done = place.spawn('cost', *few, '--sizes', '96', '--counts', out)
    assert done.returncode == 1 and 'has not counted' in done.stderr


@pytest.mark.slow
def test_tables_and_plot(place) -> None:
    """Points above the limit are missing; tables, plot and JSON tell the same."""
    out, picture, page = (place.root / name for name in ('cost.json', 'cost.png', 'cost.md'))
    page.write_text('<!-- table: python tools/cost.py --write cost.md -->\n<!-- end -->\n')
    limit = 2e-3
    options = ['--device', 'cpu', '--threads', '1', '--repeats', '1', '--max-tflops', limit]
    options += ['--models', 'vit_tiny_patch16_224', 'vit_small_patch16_224']
    options += ['--model-args', json.dumps(ARGS), '--sizes', '32', '64', '512']
    done = place.spawn('cost', *options, '--json', out, '--plot', picture, '--write', page)
    assert done.returncode == 0, done.stderr
    assert '4 of 6 points are timed' in done.stderr
    report = json.loads(out.read_text())
    check_counts(place, out, report, options)
    for point in report['points']:
        assert (point['seconds'] is None) == (point['side'] == 512)
        assert point['memory_gib']['full'] > point['memory_gib']['bias only'] > 0
        seconds = '–' if point['seconds'] is None else f'{point["seconds"]["SIGMA"]:.3f} |'
        row = f'| {point["model"]} | {point["side"]}² | {point["tflops"]["full"]:.2f} | '
        (line,) = (line for line in page.read_text().splitlines() if line.startswith(row))
        assert seconds in line and line in done.stdout
    found = report['exponents']['pixels']['vit_tiny_patch16_224']['full']
    assert found['all'] == found['upper'] is not None
    assert picture.read_bytes().startswith(b'\x89PNG')


def test_wrong_arguments(place, capsys) -> None:
    assert place.call('cost', '--device', 'cpu', '--threads', '2', '--clock', 'cpu') == 2
    assert '--threads 1' in capsys.readouterr().err
    assert place.call('cost', '--repeats', '0') == 2
    assert 'at least 1' in capsys.readouterr().err
