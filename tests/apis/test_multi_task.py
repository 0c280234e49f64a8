"""Several tuned models on one trunk: shared weights, separate everything else."""

import copy
from dataclasses import dataclass

import pytest
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample

from mmsigma.apis.multi_task import MultiTaskModel
from mmsigma.errors import CheckpointMismatchError, InvalidSettingError, UnknownNameError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.sigma import SIGMA
from mmsigma.registry import TUNERS as TUNER_REGISTRY
from tests.tiny import TUNERS, backbone, images, same, shake, sigma, trunk_config


def config(
    tuner: dict,
    classes: int = 3,
    preprocessor: dict | None = None,
    test_cfg: dict | None = None,
    **trunk,
) -> Config:
    return Config(
        dict(
            custom_imports=dict(imports=['mmsigma']),
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(type='SegDataPreProcessor', **(preprocessor or {})),
                test_cfg=test_cfg or dict(mode='whole'),
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
    model = MultiTaskModel().add(name, config(**options))
    shake(model.backbone.adapters, seed)
    shake(model.decode_head, seed + 1)
    torch.save({'state_dict': model.state_dict()}, tmp_path / f'{name}.pth')
    return model, tmp_path / f'{name}.pth'


def test_each_predicts_as_it_does_alone(tmp_path) -> None:
    options = {'roads': dict(tuner=sigma()), 'brains': dict(tuner=TUNERS['Mona'], classes=5)}
    tasks, alone = MultiTaskModel(), {}
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


def pixels(height: int = 61, width: int = 45, batch: int = 2) -> dict:
    """A batch as a data loader gives it."""
    generator = torch.Generator().manual_seed(7)
    samples = []
    for _ in range(batch):
        shape = (height, width)
        samples.append(SegDataSample(metainfo=dict(ori_shape=shape, img_shape=shape)))
    return dict(
        inputs=[255 * torch.rand(3, height, width, generator=generator) for _ in samples],
        data_samples=samples,
    )


def together(**options: dict) -> MultiTaskModel:
    tasks = MultiTaskModel()
    for seed, (name, option) in enumerate(options.items()):
        model = tasks.add(name, config(**option))
        shake(model.backbone.adapters, seed)
        shake(model.decode_head, seed + 10)
    return tasks


def logits(predictions: list) -> list[torch.Tensor]:
    return [sample.seg_logits.data for sample in predictions]


def each_alone(tasks: MultiTaskModel, data: dict) -> dict[str, list]:
    with torch.no_grad():
        return {n: model.test_step(copy.deepcopy(data)) for n, model in tasks.items()}


def agree(found: list, alone: list) -> None:
    """To rounding: oneDNN may add up in another order each time."""
    torch.testing.assert_close(logits(found), logits(alone), rtol=1e-5, atol=1e-5)


def embeds(tasks: MultiTaskModel, monkeypatch) -> list[torch.Size]:
    """The shapes of all batches that the trunk embeds from now on."""
    trunk = next(iter(tasks.values())).backbone.trunk
    embed, seen = trunk.embed, []
    monkeypatch.setattr(trunk, 'embed', lambda x: seen.append(x.shape) or embed(x))
    return seen


def test_predict_gives_what_each_gives_alone_with_one_pass(monkeypatch) -> None:
    tasks = together(
        roads=dict(tuner=sigma()),
        late=dict(tuner=sigma(blocks=[-1]), classes=4),
        brains=dict(tuner=dict(type='Frozen'), classes=5),
    )
    data = pixels()
    alone = each_alone(tasks, data)
    seen = embeds(tasks, monkeypatch)
    found = tasks.predict(data)
    assert len(seen) == 1
    assert list(found) == list(tasks)
    for name in tasks:
        assert len(found[name]) == 2
        agree(found[name], alone[name])
    assert not any('seg_logits' in sample for sample in data['data_samples'])
    some = tasks.predict(data, ['brains'])
    assert list(some) == ['brains'] and len(seen) == 2
    agree(some['brains'], alone['brains'])
    with pytest.raises(UnknownNameError, match="mean 'brains'"):
        tasks.predict(data, ['brain'])


def test_other_preprocessing_takes_a_pass_of_its_own(monkeypatch) -> None:
    frozen = dict(type='Frozen')
    tasks = together(
        raw=dict(tuner=frozen),
        normed=dict(tuner=frozen, preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3)),
        padded=dict(tuner=frozen, preprocessor=dict(test_cfg=dict(size=(84, 70)))),
        also_raw=dict(tuner=sigma(blocks=[1])),
    )
    data = pixels()
    alone = each_alone(tasks, data)
    seen = embeds(tasks, monkeypatch)
    found = tasks.predict(data)
    assert len(seen) == 3
    for name in tasks:
        agree(found[name], alone[name])


def test_sliding_windows_are_shared_one_by_one(monkeypatch) -> None:
    slide = dict(mode='slide', crop_size=(42, 42), stride=(28, 28))
    tasks = together(
        roads=dict(tuner=dict(type='Frozen'), test_cfg=slide),
        brains=dict(tuner=TUNERS['Mona'], test_cfg=slide),
    )
    data = pixels(batch=1)
    alone = each_alone(tasks, data)
    seen = embeds(tasks, monkeypatch)
    found = tasks.predict(data)
    assert len(seen) == 4
    for name in tasks:
        agree(found[name], alone[name])


@pytest.mark.parametrize('first', [[1], [1, 3]])
def test_maps_that_only_another_task_takes(first: list[int]) -> None:
    """A backbone of its own drops norms that none of its maps passes; the shared trunk may not."""
    tasks, alone = MultiTaskModel(), {}
    for name, outputs in {'first': first, 'second': [4 - first[-1]]}.items():
        option = config(dict(type='Frozen'), trunk='mmpretrain-swin')
        option.model.backbone.out_indices = outputs
        width = 16 if outputs == [1] else 32
        option.model.decode_head.update(in_channels=width, channels=width)
        tasks.add(name, option)
        alone[name] = backbone('mmpretrain-swin', 'Frozen', out_indices=outputs)
    x = images('mmpretrain-swin')
    for name in tasks:
        assert same(tasks[name].backbone(x), alone[name](x))


def test_folds_what_folds_beside_the_trunk(tmp_path) -> None:
    data, trunk = pixels(), None
    for seed, (tuner, folds) in enumerate(
        [
            (sigma(gate='static', scale='learned'), True),
            (TUNERS['LoRand'], True),
            (TUNERS['SIGMA'], False),
            (dict(type='Frozen'), False),
        ]
    ):
        model, path = trained(tmp_path, f'task{seed}', seed, tuner=tuner)
        tasks = MultiTaskModel()
        tasks.add('plain', config(dict(type='Frozen')))
        trunk = tasks['plain'].backbone.trunk
        before = {name: value.clone() for name, value in trunk.state_dict().items()}
        folded = tasks.add('merged', config(tuner), path, merge=True)
        assert folded.backbone.trunk is trunk and not folded.training
        assert all(torch.equal(before[n], v) for n, v in trunk.state_dict().items())
        changed = folded.backbone.tuner.settings() != model.backbone.tuner.settings()
        assert changed is folds
        expected = logits(model.test_step(copy.deepcopy(data)))
        for ours, theirs in zip(logits(tasks.predict(data)['merged']), expected, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@dataclass
class BakedIn(SIGMA):
    """Beside the trunk while it runs, merged into the trunk."""

    def merge(self, context: InjectionContext) -> dict:
        next(p for p in context.trunk.parameters()).add_(1)
        context.adapters.at.clear()
        return {'type': 'Frozen'}


def test_what_folds_into_the_trunk_stays_unfolded(monkeypatch) -> None:
    # In the registry for this test alone: others count what is there.
    monkeypatch.setitem(TUNER_REGISTRY._module_dict, 'BakedIn', BakedIn)
    tasks, said = MultiTaskModel(), []
    monkeypatch.setattr('mmsigma.apis.multi_task.print_log', lambda text, **_: said.append(text))
    tasks.add('roads', config({**sigma(), 'type': 'BakedIn'}), merge=True)
    assert len(said) == 1 and 'merges into the trunk' in said[0]
    assert type(tasks['roads'].backbone.tuner) is BakedIn
    assert same(tasks['roads'].backbone(images()), backbone(tuner='Frozen')(images()))


def test_tasks_that_cannot_share_are_refused_at_once() -> None:
    tasks = MultiTaskModel()
    with pytest.raises(InvalidSettingError, match='cannot be shared'):
        tasks.add('roads', config(TUNERS['BitFit']))
    assert not tasks
    tasks.add('roads', config(sigma()))


def test_errors(tmp_path) -> None:
    tasks = MultiTaskModel()
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
    with pytest.raises(CheckpointMismatchError, match='decode_head'):
        tasks.add('brains', config(sigma(gate='mean'), classes=7), path)
    assert list(tasks) == ['roads']
