"""Adapters as files: they round-trip, belong to one trunk, and say what is wrong."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mmsigma.checkpoint import adapter_files
from mmsigma.errors import CheckpointMismatchError
from tests.fixtures import ROOT
from tests.tiny import TUNERS, backbone, images, same, shake, sigma


class Model(nn.Module):
    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.backbone = own
        self.decode_head = nn.Linear(3, 2)


@pytest.mark.parametrize('tuner', [t for t in TUNERS if t != 'Frozen'])
def test_round_trip(tuner: str, tmp_path: Path) -> None:
    own = backbone('registers', tuner)
    shake(own)
    counts = adapter_files.save(Model(own).state_dict(), tmp_path / 'a')
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == [
        'adapter.json',
        'adapter.safetensors',
    ]
    tensors = load_file(tmp_path / 'a/adapter.safetensors')
    assert set(tensors) | {'_extra_state'} == set(own.state_dict())
    assert counts['tensors'] == len(tensors)
    assert counts['bytes'] == (tmp_path / 'a/adapter.safetensors').stat().st_size
    record = json.loads((tmp_path / 'a/adapter.json').read_text())
    assert record['trunk'] == own.trunk.name and record['tuner'] == own.tuner.settings()

    again = backbone('registers', tuner, seed=7)
    adapter_files.load(again, tmp_path / 'a')
    assert same(again(images('registers')), own(images('registers')))


def test_exporting_a_backbone_is_exporting_its_model(tmp_path: Path) -> None:
    own = backbone()
    adapter_files.save(own.state_dict(), tmp_path / 'a')
    adapter_files.save(Model(own).state_dict(), tmp_path / 'b')
    for name in ('adapter.json', 'adapter.safetensors'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


@pytest.mark.parametrize(
    ('target', 'part'),
    [
        ({'trunk': 'siglip'}, 'trained on trunk'),
        ({'tuner': sigma(gate='mean')}, 'gate'),
        ({'trunk_options': {'weights': 'random'}}, 'weights'),
    ],
    ids=str,
)
def test_another_trunk_or_tuner_is_refused(target: dict, part: str, tmp_path: Path) -> None:
    adapter_files.save(backbone().state_dict(), tmp_path)
    with pytest.raises(CheckpointMismatchError, match=part):
        adapter_files.load(backbone(**target), tmp_path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    own = backbone()
    with pytest.raises(CheckpointMismatchError, match='it holds nothing'):
        adapter_files.load(own, tmp_path / 'no')
    adapter_files.save(own.state_dict(), tmp_path)
    file = tmp_path / 'adapter.safetensors'
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointMismatchError, match=r'adapter\.json, adapter\.safetensors'):
        adapter_files.load(own, tmp_path)
    with pytest.raises(CheckpointMismatchError, match='0 records'):
        adapter_files.save(nn.Linear(2, 2).state_dict(), tmp_path)


def test_the_tool(tmp_path: Path, capsys, monkeypatch) -> None:
    model = Model(backbone())
    torch.save({'state_dict': model.state_dict(), 'optimizer': {}}, tmp_path / 'iter_1.pth')
    spec = importlib.util.spec_from_file_location(
        'export', ROOT / 'tools/model_converters/export_adapter.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    out = str(tmp_path / 'out')
    monkeypatch.setattr('sys.argv', ['export_adapter.py', str(tmp_path / 'iter_1.pth'), out])
    tool.launch.run(tool.main)
    assert 'parameters' in capsys.readouterr().out
    again = backbone(seed=3)
    adapter_files.load(again, out)
    monkeypatch.setattr('sys.argv', ['export_adapter.py', str(tmp_path / 'iter_2.pth'), out])
    with pytest.raises(SystemExit):
        tool.launch.run(tool.main)
    assert 'iter_1.pth' in capsys.readouterr().err
