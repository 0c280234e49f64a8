"""``tools/analysis_tools/benchmark.py``: what it measures, on models of milliseconds."""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import benchmark  # this and the next of tools/analysis_tools
import pytest
import torch
from benchmarks import measure, models, scaling
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.execution.activation_memory import activation_bytes
from mmsigma.models.tuners.mona import MonaAdapter
from tests.fixtures import ROOT, TINY

SCRIPT = ROOT / 'tools/analysis_tools/benchmark.py'
ARGS = {'depth': 2, 'embed_dim': 64, 'num_heads': 2}
MODEL = ['--model-args', json.dumps(ARGS)]
ONE = ['--threads', '1', '--repeats', '2']


def run(*arguments: Any) -> int:
    """The exit status of a command line."""
    try:
        benchmark.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps whose memory is asked for run here, not in processes of their own."""

    def peak(build: Any, args: argparse.Namespace, steps: int = 1) -> int:
        step = build()
        for _ in range(steps):
            step()
        return 3 * measure.MIB

    monkeypatch.setattr(measure, 'peak_memory', peak)


def rows_of(text: str) -> list[list[str]]:
    """Cells of every line of tables in a text."""
    return [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('|')]


# --- Command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'status', 'answer'),
    [
        (['--help'], 0, 'precision'),
        (['model', '--help'], 0, '--chunked-loss'),
        (['backbone', '--repeat-s'], 2, 'unrecognized arguments: --repeat-s'),
    ],
)
def test_answers_without_importing_anything(arguments, status, answer) -> None:
    """``-S``: there is the standard library alone."""
    command = [sys.executable, '-S', SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status and answer in done.stdout + done.stderr


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['backbone', '--shapes', 'vit:224:4:1'], 'is no NAME:HEIGHTxWIDTH:BATCH'),
        (['backbone', '--shapes', 'vit:axb:1'], 'is no NAME:HEIGHTxWIDTH:BATCH'),
        (['adapter', '--shapes', '32:3x5'], 'is no NAME:HEIGHTxWIDTH:BATCH'),
        (['model', 'a.py', '--size', '84xb'], 'is no HEIGHTxWIDTH'),
        (['scaling', '--repeats', '0'], 'at least 1'),
        (['scaling', '--device', 'cuda', '--clock', 'cpu'], '--device cpu --threads 1'),
        (['precision', '--threads', '2'], '--device cpu --threads 1'),
    ],
)
def test_what_it_refuses(arguments, message, capsys) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_arguments() -> None:
    args = benchmark.parse_args(['backbone', '--shapes', 'vit_small_patch14_dinov2:224x308:4'])
    assert args.shapes == [('vit_small_patch14_dinov2', 224, 308, 4)]
    assert (args.device, args.clock, args.tuners) == (None, 'wall', None)
    args = benchmark.parse_args(['backbone', '--clock', 'cpu', '--tuners'])
    assert (args.device, args.threads, args.tuners) == ('cpu', 1, [])
    args = benchmark.parse_args(['precision'])
    assert (args.size, args.clock) == ((448, 448), 'cpu')


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_without_a_gpu_it_says_so(capsys) -> None:
    assert run('backbone', '--device', 'cuda') == 1
    assert 'finds no GPU' in capsys.readouterr().err


# --- Measuring --------------------------------------------------------------------------------


class Clock:
    """A time that passes when it is told to, and what was done in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.done = 0.0, []
        monkeypatch.setitem(measure.CLOCKS, 'fake', lambda: self.now)

    def step(self, name: str, seconds: list[float]) -> None:
        self.done.append(name)
        self.now += seconds.pop(0)

    def reset(self, name: str) -> None:
        self.done.append(f'reset {name}')
        self.now += 100  # what is not timed


@pytest.mark.parametrize('repeats', [1, 4])
def test_steps_take_turns(monkeypatch, repeats) -> None:
    clock = Clock(monkeypatch)
    steps = {name: partial(clock.step, name, [1.0] * 5) for name in 'abc'}
    rows = measure.in_turns(steps, argparse.Namespace(repeats=repeats, clock='fake'), clock.reset)
    turns = [
        [f'reset {name}', name, f'reset {name}']
        for turn in range(repeats + 1)
        for name in ('cba' if turn % 2 == 0 else 'abc')
    ]
    assert clock.done == [word for words in turns for word in words]
    assert all(row['all_seconds'] == [1.0] * repeats for row in rows.values())


def test_medians_and_ratios_within_a_round(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    # The machine becomes slower and slower: medians alone would hide that b takes twice as long.
    seconds = {'a': [9.0, 1.0, 2.0, 30.0], 'b': [7.0, 2.0, 4.0, 15.0]}
    steps = {name: partial(clock.step, name, taken) for name, taken in seconds.items()}
    rows = measure.in_turns(steps, argparse.Namespace(repeats=3, clock='fake'))
    assert [rows['a'][key] for key in ('first_seconds', 'seconds')] == [9.0, 2.0]
    assert rows['b']['all_seconds'] == [2.0, 4.0, 15.0]
    assert measure.ratio(rows['b'], rows['a']) == 2.0
    assert measure.ratio(rows['a'], rows['a']) == 1.0
    assert measure.ratio(rows['a'], None) is None


def build_hungry(held: list[torch.Tensor]) -> Any:
    """A step that takes 128 MiB, and keeps 64 of them; making it takes, and gives back, 256."""
    torch.ones(2**26)

    def step() -> None:
        held.append(torch.ones(2**24))
        torch.ones(2**24)

    return step


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='needs Linux')
@pytest.mark.parametrize(('steps', 'expected'), [(1, 128), (2, 192)])
def test_peak_memory_of_a_fresh_process(steps, expected) -> None:
    args = argparse.Namespace(device='cpu', threads=1)
    found = measure.peak_memory(partial(build_hungry, []), args, steps)
    assert found / measure.MIB == pytest.approx(expected, abs=24)  # code is read, too


def test_tables_and_reports_are_written_as_they_come(tmp_path, capsys) -> None:
    page, out = tmp_path / 'page.md', tmp_path / 'new/out.json'
    tool = 'tools/analysis_tools/benchmark.py adapter'
    page.write_text(f'<!-- table: python {tool} --write page.md -->\n<!-- end -->\n')
    args = benchmark.parse_args(['adapter', '--json', str(out), '--write', str(page), *ONE])

    def command(args: argparse.Namespace, report: Any) -> Any:
        report['first'] = 1
        yield measure.table('a | b', {'c': ('c', '.1f')}, {'x | y': {'c': 2}, 'z | y': {'c': None}})
        assert json.loads(out.read_text())['first'] == 1
        report['second'] = 2
        yield 'more'

    measure.run(command, args)
    report = json.loads(out.read_text())
    assert report['header']['threads'] == 1 and report['second'] == 2
    assert {'cpu', 'dtype', 'device', 'torch', 'repeats'} <= report['header'].keys()
    text = '| a | b | c |\n| --- | --- | --: |\n| x | y | 2.0 |\n| z | y |  |\n\nmore\n'
    assert text in page.read_text() and text in capsys.readouterr().out


# --- Commands ---------------------------------------------------------------------------------


def test_backbones(in_process, tmp_path, capsys) -> None:
    out = tmp_path / 'bench.json'
    tuners = ['--tuners', 'full', 'bitfit', 'sigma', 'frozen']
    shapes = ['--shapes', 'vit_tiny_patch16_224:32x48:2', *MODEL]
    assert run('backbone', '--device', 'cpu', *ONE, *tuners, *shapes, '--json', out) == 0
    printed = [row[0] for row in rows_of(capsys.readouterr().out)[2:]]
    (case,) = json.loads(out.read_text())['cases']
    assert case['case'] == dict(
        model='vit_tiny_patch16_224', height=32, width=48, batch=2, model_args=ARGS
    )
    rows = case['variants']
    assert list(rows) == printed == tuners[1:]
    for row in rows.values():
        assert len(row['all_seconds']) == 2 and row['seconds'] > 0
        assert row['peak_memory_mib'] == 3
    assert rows['full']['ratio_to_full'] == rows['bitfit']['ratio_to_floor'] == 1
    assert rows['frozen']['trained_parameters'] == 0
    assert 0 < rows['bitfit']['trained_parameters'] < rows['sigma']['trained_parameters']
    assert run('backbone', '--tuners', 'sigmo') == 1
    assert "'sigmo'" in capsys.readouterr().err


@pytest.mark.parametrize('tuner', ['BitFit', 'SIGMA'])
def test_what_is_counted_is_what_a_step_takes(tuner: str) -> None:
    trunk = dict(type='TimmViT', model_name='vit_small_patch16_224', model_args=ARGS)
    shape = (2, 3, 40, 64)
    (found,) = scaling.count(trunk, dict(type=tuner), [shape])
    model = AdaptedBackbone({**trunk, 'weights': 'random'}, dict(type=tuner)).train()
    images = torch.randn(shape)
    assert found['kept'] == activation_bytes(model, images) > 0
    assert found['parameters'] == sum(p.numel() for p in model.parameters())
    assert found['weights'] == 4 * found['parameters']
    with FlopCounterMode(display=False) as counter:  # knows no attention of CPUs
        sum(m.square().mean() for m in model(images)).backward()
    tokens, blocks = 3 * 4 + 1, 2
    product = 2 * 2 * tokens**2 * 64  # of all heads, 2 images
    # 2 products forward and 5 backward; SIGMA behind the first block sends no gradient into it.
    assert found['flops'] - counter.get_total_flops() == product * (
        2 * blocks + 5 * (1 if tuner == 'SIGMA' else blocks)
    )


def test_exponents() -> None:
    def point(side: int, seconds: float | None) -> dict[str, Any]:
        taken = None if seconds is None else dict.fromkeys(scaling.VARIANTS, seconds)
        return {'model': 'a', 'side': side, 'parameters': side, 'seconds': taken}

    points = [point(4, 48.0), point(2, 12.0), point(16, None), point(8, 48.0 * 2**4)]
    found = scaling.exponents(points)
    assert list(found) == [f'against pixels, a, {w}' for w in ('all sizes', 'the two largest')]
    assert found['against pixels, a, all sizes']['full'] == pytest.approx(1.5)
    assert found['against pixels, a, the two largest']['SIGMA'] == pytest.approx(2)
    assert scaling.exponents(points[:1]) == scaling.exponents([]) == {}


def test_scaling_leaves_large_points_out(tmp_path, capsys) -> None:
    out, picture = tmp_path / 'cost.json', tmp_path / 'cost.png'
    names = ['--models', 'vit_tiny_patch16_224']
    limits = ['--sizes', '32', '64', '512', '--max-tflops', '2e-3', *MODEL]
    files = ['--json', out, '--plot', picture]
    assert run('scaling', '--device', 'cpu', *ONE, *names, *limits, *files) == 0
    printed = capsys.readouterr()
    assert '2 of 3 points are timed' in printed.err
    report = json.loads(out.read_text())
    lines = rows_of(printed.out)[2:5]
    for point, line in zip(report['points'], lines, strict=True):
        assert (point['seconds'] is None) == (point['side'] == 512)
        assert point['memory_gib']['full'] > point['memory_gib']['bias only'] > 0
        seconds = point['seconds'] and f'{point["seconds"]["SIGMA"]:.3f}'
        assert line[3].split(', ')[-1] == (seconds or '–')
    words = ('all sizes', 'the two largest')  # one trunk says nothing about parameters
    assert list(report['exponents']) == [f'against pixels, {names[1]}, {w}' for w in words]
    assert picture.read_bytes().startswith(b'\x89PNG')


def test_adapters(tmp_path, capsys) -> None:
    out = tmp_path / 'adapters.json'
    shapes = ['--shapes', '32:3x5:2', '48:4x4:1']
    assert run('adapter', *shapes, *ONE, '--clock', 'cpu', '--json', out) == 0
    assert capsys.readouterr().out.count('| SIGMA, fast |') == 2
    found = json.loads(out.read_text())['shapes']
    assert list(found) == shapes[1:]
    for width, result in zip((32, 48), found.values(), strict=True):
        both = [f'{name}, {form}' for name in ('Mona, two', 'SIGMA') for form in ('plain', 'fast')]
        assert list(result) == both
        assert result['Mona, two, plain']['speed'] == 1
        one = sum(p.numel() for p in MonaAdapter(width, 64, 0.0, False, 'fast').parameters())
        assert result['Mona, two, fast']['parameters'] == 2 * one
        assert all(len(row['all_seconds']) == 2 for row in result.values())


def test_tasks(capsys) -> None:
    options = ['--tasks', '3', '--adapted', '0', '1', '--size', '32', '--repeats', '1']
    assert run('tasks', *options, *MODEL) == 0
    rows = rows_of(capsys.readouterr().out)[2:]
    assert [row[:2] for row in rows] == [['3', '2 of 2'], ['3', '1 of 2']]
    assert [row[-1] for row in rows] == ['0.33', '0.67']
    assert all(float(row[2]) >= 0 for row in rows)


def test_precision(capsys) -> None:
    pytest.importorskip('torchao')
    name = ['--model', 'vit_tiny_patch16_224']
    assert run('precision', *name, '--size', '32', '--repeats', '1', *MODEL) == 0
    rows = rows_of(capsys.readouterr().out)[2:]
    stored = ('float32', 'bfloat16', 'int8')
    assert [row[:2] for row in rows] == [[s, a] for s in stored for a in ('none', 'bfloat16')]
    found = {tuple(row[:2]): row[2:] for row in rows}
    errors = {name: float(cells[0].split()[0]) for name, cells in found.items()}
    assert errors['float32', 'none'] < 1e-3 < errors['int8', 'none'] < 5
    assert rows[0][3] == '1.00' and all(float(row[3]) > 0 for row in rows)
    frozen = {row[0]: float(row[4]) for row in rows}
    assert frozen['bfloat16'] == pytest.approx(frozen['float32'] / 2, abs=0.1)
    assert frozen['int8'] <= frozen['bfloat16']  # in tenths of a MiB
    for row in rows:
        assert float(row[5]) > 0 and float(row[6]) > float(row[7]) >= 0
    assert found['int8', 'none'][4] == found['float32', 'none'][4]


# --- Whole models -----------------------------------------------------------------------------


def tiny(framework: str) -> Any:
    """What loads a tiny config, with a tuner, in place of the real one of that name."""

    def load(args: argparse.Namespace, path: str, tuner: str | None) -> Config:
        type_ = {'full': 'Full', 'frozen': 'Frozen', 'bitfit': 'BitFit'}[tuner or 'frozen']
        if framework == 'mmdet':
            from tests import detectors

            config = detectors.tiny(detectors.leaf('mask-rcnn-small'), Path('data'))
        else:
            config = Config.fromfile(ROOT / 'configs/camvid/sigma_dinov2-s_fcn_camvid-308x224.py')
            config.model.backbone.trunk.update(weights='random', model_args=TINY)
            config.model.backbone.out_indices = None
            config.model.decode_head.update(in_channels=[32] * 4, channels=16)
        config.model.backbone.pop('tuner')
        config.model.backbone.tuner = dict(type=type_)
        return config

    return load


@pytest.mark.parametrize('framework', ['mmseg', 'mmdet'])
def test_models_in_turns(framework, in_process, tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip(framework)
    monkeypatch.setattr(models, 'load', tiny(framework))
    monkeypatch.setattr(models, 'product_rate', lambda args: 2e12)
    out = tmp_path / 'models.json'
    options = [*ONE, '--repeats', '1', '--size', '84x112', '--batch', '2', '--json', out]
    switches = ['--chunked-loss', '--half-trunk', '--profile']
    assert run('model', 'a.py', '--tuners', 'full', 'bitfit', 'frozen', *options, *switches) == 0
    printed = capsys.readouterr()
    report = json.loads(out.read_text())
    assert report['header']['size'] == [84, 112]
    rows = report['configs']
    names = ['a, full', 'a, bitfit', 'a, frozen']
    switched = [f'{name}, chunked-loss' for name in names if framework == 'mmseg']
    switched.append('a, frozen, half-trunk')
    assert rows.keys() == {*names, *switched}
    assert 'a, full, half-trunk: left out' in printed.err
    full, floor, frozen = (rows[name] for name in names)
    trained = [row['trained_parameters'] for row in (full, floor, frozen)]
    assert trained == sorted(trained)[::-1]
    assert rows['a, frozen, half-trunk']['trained_parameters'] == trained[2]
    for kind in ('train', 'inference'):
        assert full[kind]['ratio'] == floor[kind]['ratio_to_floor'] == 1
        assert len(full[kind]['all_seconds']) == 1
        assert full[kind]['images_per_second'] == pytest.approx(2 / full[kind]['seconds'])
        assert f'{frozen[kind]["ratio"]:.3f}' in printed.out
    # A ViT: 48 patches of 588 values and a class token, 4 blocks, 32 wide.
    n, c = 49, 32
    forward = 2 * (4 * (24 * n * c * c + 4 * n * n * c) + 2 * 48 * 588 * c) / 1e12
    assert full['trunk_tflops'] == pytest.approx(forward, rel=1e-6)
    assert full['train']['tflops'] - frozen['train']['tflops'] > 1.7 * forward  # the way back
    assert full['share_of_peak'] == full['train']['tflops'] / full['train']['seconds'] / 2
    assert full['peak_memory_mib'] == 3
    spent = full['operators']
    # Which operators are the slowest depends on the machine.
    first = next(iter(spent))
    assert first in printed.out and list(spent.values()) == sorted(spent.values())[::-1]


def test_configs_are_loaded_as_tools_train_does(capsys) -> None:
    leaf = ROOT / 'configs/camvid/frozen_dinov2-s_fcn_camvid-308x224.py'
    options = ['--amp', '--cfg-options', 'model.backbone.with_cp=True', 'train_cfg.max_iters=3']
    args = benchmark.parse_args(['model', str(leaf), *options])
    config = models.load(args, args.configs[0], 'bitfit')
    backbone = config.model.backbone
    assert (backbone.tuner.type, backbone.trunk.weights) == ('BitFit', 'random')
    assert (backbone.with_cp, backbone.autocast, config.train_cfg.max_iters) == (
        True,
        'bfloat16',
        3,
    )
    assert config.optim_wrapper.type == 'mmsigma.BFloat16OptimWrapper'
    for twice in ([leaf, leaf], [leaf, '--tuners', 'full', 'full']):
        assert run('model', *twice) == 1
        assert 'named twice' in capsys.readouterr().err


def test_the_rate_of_a_product(monkeypatch) -> None:
    found = SimpleNamespace(times=[0.5, 0.25, 1.0])
    timer = SimpleNamespace(blocked_autorange=lambda min_run_time: found)
    monkeypatch.setattr(models, 'Timer', lambda *args, **kwargs: timer)
    args = argparse.Namespace(device='cpu', bf16=False, amp=False, threads=1)
    assert models.product_rate(args) == 2 * 2048**3 / 0.25


@pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch finds no GPU')
def test_launches(capsys) -> None:
    shapes = ['--shapes', 'vit_tiny_patch16_224:32x48:2', *MODEL]
    assert run('backbone', '--tuners', 'sigma', *shapes, '--repeats', '2') == 0
    assert capsys.readouterr().out.count('| sigma |') == 2
