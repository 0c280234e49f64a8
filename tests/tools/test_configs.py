"""tools/configs.py, as users call it."""

import importlib.util
import shutil
import sys

import pytest

from tests.fixtures import ROOT


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs the tool on a copy of the base configs; exit status, output and errors."""
    base = tmp_path / 'configs/_base_'
    shutil.copytree(ROOT / 'configs/_base_', base)

    def run(*words):
        spec = importlib.util.spec_from_file_location('tool_configs', ROOT / 'tools/configs.py')
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, 'argv', ['tools/configs.py', *words])
        status = 0
        try:
            spec.loader.exec_module(module)
            module.BASE = base
            module.launch.run(module.main)
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


LEAF = ('--benchmark', 'voc-1x', '--tuner', 'lora', '--trunk', 'swin-s', '--head', 'retinanet')


def test_lists(call):
    words = ('--benchmark', 'ade20k-640x640-*', '--trunk', 'dinov2-[bl]', '--head', 'upernet')
    status, out, _ = call(*words, '--tuner', '[bs]i*')
    names = out.split()
    assert status == 0 and len(names) == len(set(names)) == 2 * 2 * 3
    assert 'sigma_dinov2-l_upernet_ade20k-640x640-160k' in names
    assert call(*words, '--tuner', '[bs]i*', '--count')[1].split()[-1] == '12'


def test_writes_a_leaf_once(call, tmp_path):
    path = tmp_path / 'configs/voc/lora_swin-s_retinanet_voc-1x.py'
    assert call('--write', *LEAF)[:2] == (0, f'{path}\n')
    text = path.read_text()
    assert "'../_base_/datasets/voc_detection.py'" in text
    assert call('--print', *LEAF)[1] == text
    assert call('--write', *LEAF)[0] == 0
    path.write_text(f'{text}# mine\n')
    status, _, errors = call('--write', *LEAF)
    assert status == 1 and 'exists and says something else' in errors
    assert path.read_text() == f'{text}# mine\n'


def test_lists_benchmarks(call):
    lines = dict(line.split(maxsplit=1) for line in call('--benchmarks')[1].splitlines())
    assert lines['nyu-480x480-40k'] == 'dpt-depth'
    assert 'mask2former-semantic' in lines['gta-512x512-40k']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--write', *LEAF[:4]), 'add --trunk, --head'),
        (('--write', '--benchmark', 'voc-2x', *LEAF[2:]), "Did you mean 'voc-1x'"),
        (('--trunk', 'dinov2_s'), "Did you mean 'dinov2-s'"),
        (('--write', *LEAF[:-1], 'upernet'), 'Heads for it: dino, faster-rcnn, retinanet'),
    ],
)
def test_bad_input(call, words, message):
    status, _, errors = call(*words)
    assert status == 1 and message in errors
