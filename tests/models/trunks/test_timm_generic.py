"""TimmGeneric: what it finds out of a model, what it refuses, and models named nowhere else."""

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsigma.errors import InvalidInputError, InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.tiny import backbone, images, loss, shake, sigma


def generic(model_name: str, tuner: str = 'SIGMA', **options) -> AdaptedBackbone:
    trunk = {'type': 'TimmGeneric', 'model_name': model_name, 'weights': 'random', **options}
    return AdaptedBackbone(trunk, {'type': tuner}).eval()


@pytest.mark.parametrize(
    ('model_name', 'blocks', 'widths', 'strides'),
    [
        ('convnext_tiny', 18, [96, 192, 384, 768], [4, 8, 16, 32]),
        ('mvitv2_tiny', 10, [96, 192, 384, 768], [4, 8, 16, 32]),  # blocks return tuples
        ('pvt_v2_b0', 8, [32, 64, 160, 256], [4, 8, 16, 32]),
        ('efficientnet_b0', 9, [16, 24, 40, 112, 320], [2, 4, 8, 16, 32]),
        ('twins_pcpvt_small', 16, [64, 128, 320, 512], [4, 8, 16, 32]),
        ('xcit_nano_12_p16_224', 12, [128] * 4, [16] * 4),  # its class token comes later
        ('vit_small_patch16_18x2_224', 18, [384] * 4, [16] * 4),
        ('focalnet_tiny_srf', 12, [96, 192, 384, 768], [4, 8, 16, 32]),
    ],
)
def test_what_it_finds(model_name: str, blocks: int, widths: list, strides: list) -> None:
    own = generic(model_name)
    assert (own.out_channels, own.out_strides) == (widths, strides)
    assert set(own.adapters.at) == {str(i) for i in range(blocks)}


@pytest.mark.slow
@pytest.mark.parametrize(
    'model_name',
    ['mvitv2_tiny', 'pvt_v2_b0', 'focalnet_tiny_srf', 'xcit_nano_12_p16_224', 'maxvit_pico_rw_256'],
)
def test_equals_upstream(model_name: str) -> None:
    own = generic(model_name)
    side = own.trunk.model.pretrained_cfg['input_size'][-1]
    x = torch.randn(2, 3, side, side)
    levels = [own.trunk._found[i].level for i in own.out_indices]
    with torch.no_grad():
        ours = own(x)
        theirs = own.trunk.model.forward_intermediates(
            x, indices=levels, norm=False, intermediates_only=True
        )
        shake(own)
        moved = own(x)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    # Every adapter is on the way to a map: none is attached to something that never runs.
    assert not any(torch.equal(a, b) for a, b in zip(moved, theirs, strict=True))


def test_every_adapter_is_reached() -> None:
    for name in ('convnext', 'mambaout', 'parallel'):
        own = backbone(name)
        shake(own)
        loss(own(images(name))).backward()
        assert all(p.grad is not None and p.grad.any() for p in own.adapters.parameters())


def test_adapters_see_rows_as_rows() -> None:
    own = backbone('convnext')
    maps, tokens = [], []
    own.trunk.blocks()[0].module.register_forward_hook(lambda _, given, out: maps.append(out))
    adapter = own.adapters.at['0']['after_block']
    adapter.register_forward_pre_hook(lambda _, given: tokens.append(given))
    own(images('convnext', 64, 96))
    (expected,), ((found, layout, *_),) = maps, tokens
    assert (layout.height, layout.width) == expected.shape[-2:] and layout.height != layout.width
    assert torch.equal(found, expected.flatten(2).transpose(1, 2))


def test_nothing_stays_hooked() -> None:
    own = backbone('convnext')
    own(images('convnext'))
    assert not any(m._forward_hooks for m in own.trunk.modules())


def test_outputs_are_the_models_own_levels() -> None:
    with pytest.raises(InvalidSettingError) as caught:
        backbone('convnext', out_indices=[0, 2])
    assert '[0, 2]' in str(caught.value) and '[0, 1, 3, 4]' in str(caught.value)
    own = backbone('convnext', 'Full', out_indices=[1])
    own(images('convnext'))[0].sum().backward()
    assert all(p.grad is not None for p in own.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('model_name', 'options', 'parts'),
    [
        ('resnet18', {}, ['resnet18', 'ResNet', 'blocks, stages or layers']),
        ('sam2_hiera_tiny', {'final_norm': True}, ['sam2_hiera_tiny', 'final_norm=True']),
        ('hiera_tiny_224', {}, ['hiera_tiny_224', "type='TimmHiera'"]),
        ('pvt_v2_b0', {'model_args': {'depth': 1}}, ["'pvt_v2_b0'", 'depth']),
    ],
    ids=str,
)
def test_errors(model_name: str, options: dict, parts: list[str]) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        generic(model_name, **options)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_model_of_one_size_says_so() -> None:
    own = generic('maxvit_pico_rw_256')
    with pytest.raises(InvalidInputError) as caught:
        own(torch.zeros(1, 3, 96, 160))
    assert '96 x 160' in str(caught.value) and 'img_size=(96, 160)' in str(caught.value)


# Models that appear nowhere else in this project: a config, no Python.
CONFIG = """custom_imports = dict(imports=['mmsigma'])
default_scope = 'mmseg'
trunk = dict(type='{family}', model_name='{name}', weights='random')
backbone = dict(type='mmsigma.AdaptedBackbone', trunk=trunk, tuner=dict(type='SIGMA'))
head = dict(type='FCNHead', in_channels={widths}, in_index={index}, channels=16, num_classes=3,
            input_transform='resize_concat', num_convs=1, norm_cfg=dict(type='BN'))
pre = dict(type='SegDataPreProcessor', size=(64, 96))
model = dict(type='EncoderDecoder', data_preprocessor=pre, backbone=backbone, decode_head=head)
"""
UNSEEN = [
    ('TimmViT', 'vit_wee_patch16_reg1_gap_256', [256] * 4),
    ('TimmEVA', 'vit_medium_patch16_rope_reg1_gap_256', [512] * 4),
    ('TimmGeneric', 'caformer_s18', [64, 128, 320, 512]),
]


@pytest.mark.slow
@pytest.mark.parametrize(('family', 'name', 'widths'), UNSEEN, ids=lambda v: str(v)[:40])
def test_unseen_models_need_nine_lines(family: str, name: str, widths: list, tmp_path) -> None:
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(family=family, name=name, widths=widths, index=[0, 1, 2, 3]))
    assert len(path.read_text().splitlines()) < 10
    assert name in timm.list_models()
    config = Config.fromfile(path)
    init_default_scope('mmseg')
    model = MODELS.build(config.model).train()
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 3, (1, 64, 96))))
    data = {'inputs': [torch.rand(3, 64, 96)] * 2, 'data_samples': [sample] * 2}
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    losses = [model.train_step(data, wrapper)['loss'].item() for _ in range(4)]
    assert losses[-1] < losses[0]
    assert any(p.any() for n, p in model.backbone.named_parameters() if n.endswith('up.weight'))


def test_sigma_settings_of_positions_are_refused_before_anything_runs() -> None:
    with pytest.raises(InvalidSettingError, match=r'ConvNeXtBlock.*after_block'):
        backbone('convnext', sigma(position='parallel_mlp'))
