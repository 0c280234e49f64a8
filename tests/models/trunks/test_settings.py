"""What trunks are told to be: names, arguments, modes, dtypes."""

import pytest
import torch

from mmsigma.errors import InvalidInputError, InvalidSettingError, MMSigmaError, UnknownNameError
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.tiny import TRUNKS, backbone, images, trunk_config

TIMM, MMPRETRAIN = 'dinov2', 'mmpretrain'
TINY = TRUNKS[TIMM].config['model_args']


@pytest.mark.parametrize(
    ('trunk', 'options', 'error', 'parts'),
    [
        (
            TIMM,
            {'type': 'TimVit'},
            UnknownNameError,
            ["'TimVit'", "mean 'TimmViT'", 'registry.TRUNKS'],
        ),
        (TIMM, {'weight': 'x'}, UnknownNameError, ["'weight'", "mean 'weights'", 'model_name']),
        (TIMM, {'mode': 'evil'}, UnknownNameError, ["'evil'", "mean 'eval'", 'eval, train']),
        (TIMM, {'dtype': 'float8'}, UnknownNameError, ["'float8'", 'float32, bfloat16, float16']),
        (TIMM, {'dtype': torch.float16}, UnknownNameError, ['torch.float16', 'float32, bfloat16']),
        (
            TIMM,
            {'model_name': 'vit_small_patch14_dino2'},
            UnknownNameError,
            ["'vit_small_patch14_dino2'", "mean 'vit_small_patch14_dinov2'", 'timm.list_models()'],
        ),
        (TIMM, {'model_name': None}, UnknownNameError, ['None', 'timm.list_models()']),
        (
            TIMM,
            {'model_name': 'swin_tiny_patch4_window7_224', 'model_args': None},
            InvalidSettingError,
            [
                "'swin_tiny_patch4_window7_224'",
                'SwinTransformer',
                "type='TimmSwin'",
            ],
        ),
        (
            TIMM,
            {'model_name': 'resnet18', 'model_args': None},
            InvalidSettingError,
            ["'resnet18'", 'dynamic_img_size', 'ResNet'],
        ),
        (
            TIMM,
            {'model_name': 'vit_small_patch16_18x2_224', 'model_args': TINY},
            InvalidSettingError,
            ['18x2', 'ParallelThingsBlock', "type='TimmGeneric'"],
        ),
        (TIMM, {'model_args': {'depht': 2}}, InvalidSettingError, ["'depht'", 'model_args']),
        (TIMM, {'model_args': {**TINY, 'num_heads': 5}}, InvalidSettingError, ['divisible']),
        (MMPRETRAIN, {'arch': 'deit-smal'}, InvalidSettingError, ["'deit-smal'", 'deit-small']),
        (
            MMPRETRAIN,
            {'arch': {'embed_dims': 3}},
            InvalidSettingError,
            ["'embed_dims': 3", 'num_layers'],
        ),
        (MMPRETRAIN, {'model_args': {'patchsize': 3}}, InvalidSettingError, ["'patchsize'"]),
        (MMPRETRAIN, {'model_args': {'out_type': 'raw'}}, InvalidSettingError, ["'out_type'"]),
        (MMPRETRAIN, {'model_args': {'final_norm': False}}, InvalidSettingError, ["'final_norm'"]),
    ],
)
def test_errors(trunk: str, options: dict, error: type[MMSigmaError], parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        build(REGISTRY, trunk_config(trunk, **options))
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize('trunk', [TIMM, MMPRETRAIN])
def test_weights_have_no_default(trunk: str) -> None:
    with pytest.raises(InvalidSettingError, match='needs `weights`, which has no default'):
        build(REGISTRY, TRUNKS[trunk].config)


@pytest.mark.parametrize('config', [None, 'TimmViT', {'weights': 'random'}], ids=str)
def test_a_trunk_is_a_dict_with_a_type(config: object) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        build(REGISTRY, config)
    assert 'trunk=dict(type=...)' in str(caught.value) and repr(config) in str(caught.value)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('trunk', TRUNKS)
def test_dtype(trunk: str, dtype: str) -> None:
    own = backbone(trunk, 'Frozen', trunk_options={'dtype': dtype})
    assert own.trunk.dtype == getattr(torch, dtype)
    assert {p.dtype for p in own.trunk.parameters()} == {own.trunk.dtype}
    maps, exact = own(images(trunk)), backbone(trunk, 'Frozen')(images(trunk))
    for ours, reference in zip(maps, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - reference).norm() < 0.1 * reference.norm()
        assert torch.equal(ours, reference) == (dtype == 'float32')


@torch.no_grad()
@pytest.mark.parametrize('trunk', TRUNKS)
def test_contract(trunk: str) -> None:
    """What every family says of itself."""
    own = build(REGISTRY, trunk_config(trunk))
    tiny = TRUNKS[trunk]
    assert own.patch == tiny.patch
    assert own.multiple == (tiny.multiple or tiny.patch)
    assert not own.training
    blocks = own.blocks()
    assert len(blocks) == tiny.depth
    assert all(block.module in list(own.modules()) for block in blocks)
    assert [b.stage for b in blocks] == sorted(b.stage for b in blocks)
    if blocks[0].attention is None:
        return
    tokens, state = own.embed(own.pad(images(trunk, 2 * own.patch, 3 * own.patch)))
    assert state.layout.prefix == tiny.prefix
    assert state.layout.class_token == own.has_class_token == tiny.class_token
    for block in blocks:
        if block.enter is not None:
            tokens, state = block.enter(tokens, state)
        # Branches, without the identity: an adapter can sit on either.
        base, branch, state = block.attention(tokens, state)
        y = base + branch
        z = y + block.mlp(y, state)
        area = state.layout.height * state.layout.width
        assert z.shape == (2, tiny.prefix + area, block.width)
        assert not torch.allclose(z, base)
        tokens = z


@pytest.mark.parametrize('trunk', TRUNKS)
def test_an_image_smaller_than_a_token(trunk: str) -> None:
    patch = TRUNKS[trunk].patch
    for size in ((patch - 1, 4 * patch), (4 * patch, 1)):
        with pytest.raises(InvalidInputError) as caught:
            backbone(trunk)(torch.zeros(1, 3, *size))
        assert f'{size[0]} x {size[1]} pixels' in str(caught.value)
        assert f'{patch} x {patch} pixels' in str(caught.value)
