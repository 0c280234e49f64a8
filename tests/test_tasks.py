"""Several tuned models on one trunk: shared weights, separate everything else."""

import pytest
import torch
from mmengine.config import Config

from mmsigma.backbone import AdaptedBackbone
from mmsigma.errors import CheckpointMismatchError, InvalidSettingError, UnknownNameError
from mmsigma.tasks import Tasks
from tests.tiny import TUNERS, backbone, images, same, shake, sigma, trunk_config


def config(tuner: dict, classes: int = 3, **trunk) -> Config:
    return Config(
        dict(
            custom_imports=dict(imports=['mmsigma']),
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(type='SegDataPreProcessor'),
                backbone=dict(
                    type='mmsigma.AdaptedBackbone', trunk=trunk_config(**trunk), tuner=tuner
                ),
                decode_head=dict(
                    type='FCNHead', in_channels=32, in_index=-1, channels=32, num_convs=0,
                    concat_input=False, num_classes=classes, dropout_ratio=0.0,
                ),
            ),
        )
    )  # fmt: skip


def trained(tmp_path, name: str, seed: int, **options):
    """A model on its own, and the checkpoint that its training left."""
    model = Tasks().add(name, config(**options))
    shake(model.backbone.adapters, seed)
    shake(model.decode_head, seed + 1)
    torch.save({'state_dict': model.state_dict()}, tmp_path / f'{name}.pth')
    return model, tmp_path / f'{name}.pth'


def test_each_predicts_as_it_does_alone(tmp_path) -> None:
    options = {'roads': dict(tuner=sigma()), 'brains': dict(tuner=TUNERS['Mona'], classes=5)}
    tasks, alone = Tasks(), {}
    for seed, (name, option) in enumerate(options.items()):
        alone[name], path = trained(tmp_path, name, 10 * seed, **option)
        tasks.add(name, config(**option), path)
    assert list(tasks) == ['roads', 'brains'] and len(tasks) == 2
    x = images()
    for name in ('roads', 'brains', 'roads'):
        with torch.no_grad():
            ours = tasks[name]._forward(x)
            assert torch.equal(ours, alone[name]._forward(x))
        assert not tasks[name].training
    first, second = (tasks[name].backbone.trunk for name in tasks)
    assert first is second
    held = {p.data_ptr() for model in tasks.values() for p in model.parameters()}
    own = [sum(p.numel() for p in m.parameters()) for m in alone.values()]
    shared = sum(p.numel() for p in first.parameters())
    unique = {p.data_ptr(): p.numel() for m in tasks.values() for p in m.parameters()}
    assert len(held) == len(unique) and sum(unique.values()) == sum(own) - shared


@pytest.mark.parametrize('tuner', ['Full', 'BitFit', 'HFPeft', 'NormTuning', 'SSF'])
def test_tuners_that_change_the_trunk_do_not_share_it(tuner: str) -> None:
    frozen = backbone()
    with pytest.raises(InvalidSettingError, match='cannot be shared'):
        AdaptedBackbone(frozen.trunk, TUNERS[tuner])
    with pytest.raises(InvalidSettingError, match='cannot be shared'):
        AdaptedBackbone(backbone(tuner=tuner).trunk, sigma())


def test_training_one_leaves_the_other_alone() -> None:
    first = backbone()
    second = AdaptedBackbone(first.trunk, sigma())
    before = second(images())
    shake(first)
    assert same(second(images()), before)
    assert not same(first(images()), before)


def test_errors(tmp_path) -> None:
    tasks = Tasks()
    tasks.add('roads', config(sigma()))
    with pytest.raises(InvalidSettingError, match="'roads' already"):
        tasks.add('roads', config(sigma()))
    with pytest.raises(InvalidSettingError, match='another trunk'):
        tasks.add('brains', config(sigma(), trunk='registers'))
    with pytest.raises(UnknownNameError, match="mean 'roads'"):
        tasks['road']
    _, path = trained(tmp_path, 'brains', 0, tuner=sigma(gate='mean'))
    with pytest.raises(CheckpointMismatchError, match='gate'):
        tasks.add('brains', config(sigma()), path)
    assert list(tasks) == ['roads']
