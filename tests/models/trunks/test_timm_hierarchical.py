"""timm's windowed and hierarchical trunks: what the tests of all families do not reach."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.errors import InvalidInputError, InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.tiny import backbone, images, loss, same, shake, sigma, state, trunk_config, upstream
from tests.tiny_trunks.timm_hierarchical import TRUNKS, hiera_maps

BLOCKS = [(name, index) for name in TRUNKS for index in range(TRUNKS[name].depth)]
SIZES = [(48, 32), (64, 96), (80, 48)]  # the first is the native size of some


def every_block(name: str, model: Any, x: Tensor) -> list[Tensor]:
    """The map behind every block of upstream's own model."""
    if name.startswith('hiera-') or name == 'hiera':
        return list(hiera_maps(model, x, False, coarse=False))
    if name == 'hieradet':
        return model.forward_intermediates(x, intermediates_only=True, coarse=False)
    if name == 'sam':
        return model.forward_intermediates(x, intermediates_only=True)
    found: list[Tensor] = []
    for stage in model.layers:
        for block in stage.blocks:
            block.register_forward_hook(lambda _, args, out: found.append(out.permute(0, 3, 1, 2)))
    model.forward_intermediates(x)
    return found


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('trunk', TRUNKS)
def test_every_block_is_upstream(trunk: str, size: tuple[int, int]) -> None:
    x = images(trunk, *size)
    own = backbone(
        trunk,
        sigma(position='both'),
        trunk_options={'final_norm': False} if True in TRUNKS[trunk].norms else {},
        out_indices=range(TRUNKS[trunk].depth),
    )
    with torch.no_grad():
        assert same(own(x), tuple(every_block(trunk, upstream(trunk), x)))


@pytest.mark.parametrize('trunk', TRUNKS)
def test_autocast_is_upstream(trunk: str) -> None:
    """Also where precisions mix, as in position embeddings and masks."""
    x = images(trunk, 64, 96)
    options = {'final_norm': False} if True in TRUNKS[trunk].norms else {}
    every = range(TRUNKS[trunk].depth)
    own = backbone(trunk, 'Frozen', trunk_options=options, out_indices=every)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        expected = every_block(trunk, upstream(trunk), x)
        assert same(own(x), tuple(m.float() for m in expected))


@pytest.mark.parametrize(('trunk', 'last'), BLOCKS)
def test_nothing_waits_for_a_gradient_in_vain(trunk: str, last: int) -> None:
    """Patch merging and norms behind the last output are no part of its blocks."""
    own = backbone(trunk, 'Full', out_indices=[last])
    shake(own)
    loss(own(images(trunk))).backward()
    waiting = [n for n, p in own.named_parameters() if p.requires_grad and p.grad is None]
    assert not waiting
    assert all(
        p.requires_grad for b in own.trunk.blocks()[: last + 1] for p in b.module.parameters()
    )


def test_hiera_at_its_native_size_resamples_nothing() -> None:
    x = images('hiera', 48, 32)
    with torch.no_grad():
        expected = upstream('hiera').forward_intermediates(x, intermediates_only=True)
        assert same(backbone('hiera', 'Frozen')(x), tuple(expected))
        own = build(REGISTRY, trunk_config('hiera'))
        assert torch.equal(own._position(12, 8), state('hiera')['pos_embed'])


def test_hiera_resamples_its_position_embedding_as_a_map() -> None:
    own = build(REGISTRY, trunk_config('hiera'))
    native = state('hiera')['pos_embed'].unflatten(1, (12, 8)).permute(0, 3, 1, 2)
    resampled = F.interpolate(native, (8, 20), mode='bicubic', antialias=True)
    assert torch.equal(own._position(8, 20), resampled.flatten(2).transpose(1, 2))


@pytest.mark.parametrize('trunk', ['swin', 'swinv2'])
@pytest.mark.parametrize(
    'args', [{}, {'always_partition': True}, {'img_size': 16}, {'window_size': (2, 3)}], ids=str
)
def test_swin_windows_are_upstream(trunk: str, args: dict) -> None:
    """Also beside upstream's usual model, which has its masks from its constructor."""
    config = TRUNKS[trunk].config
    args = {**config['model_args'], **args}
    own = AdaptedBackbone({**config, 'model_args': args, 'weights': 'random'}, {'type': 'Frozen'})
    own.eval().trunk.model.apply(_shake)
    side = args['img_size']
    for size, options in (((side, side), {}), ((36, 52), {'strict_img_size': False})):
        model = timm.create_model(config['model_name'], num_classes=0, **args, **options).eval()
        model.load_state_dict(own.trunk.model.state_dict())
        x = images(trunk, *size)
        with torch.no_grad():
            expected = model.forward_intermediates(x, norm=True, intermediates_only=True)
            assert same(own(x), tuple(expected))


def _shake(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.normal_(parameter, std=0.1)


def test_swin_norm_is_behind_the_last_block_only() -> None:
    x = images('swin')
    normed = backbone('swin', 'Frozen', out_indices=range(4))(x)
    plain = backbone('swin', 'Frozen', trunk_options={'final_norm': False}, out_indices=range(4))(x)
    assert [torch.equal(a, b) for a, b in zip(normed, plain, strict=True)] == [True] * 3 + [False]


def test_swin_v2_in_float16_says_where_it_would_divide_by_zero() -> None:
    half = backbone('swinv2', 'Frozen', trunk_options={'dtype': 'float16'})
    assert all(m.isfinite().all() for m in half(images('swinv2', 16, 32)))
    with pytest.raises(InvalidInputError) as caught:
        half(images('swinv2', 16, 20))
    for part in ('16 x 20 pixels', 'stride 4', '4 x 5 tokens', '2 x 2', "'bfloat16'"):
        assert part in str(caught.value), part
    # What the error prevents, and where there is nothing to prevent.
    half.trunk._check_windows = lambda *size: None
    assert half(images('swinv2', 16, 20))[0].isnan().any()
    bfloat = backbone('swinv2', 'Frozen', trunk_options={'dtype': 'bfloat16'})
    assert all(m.isfinite().all() for m in bfloat(images('swinv2', 16, 20)))
    v1 = backbone('swin', 'Frozen', trunk_options={'dtype': 'float16'})
    assert all(m.isfinite().all() for m in v1(images('swin', 16, 20)))


# --- Weights: what the releases have behind the trunk, or call by other names. ---


def load(trunk: str, tensors: dict, folder: Path) -> AdaptedBackbone:
    torch.save(tensors, folder / 'weights.pth')
    return backbone(trunk, 'Frozen', trunk_options={'weights': str(folder / 'weights.pth')})


@pytest.mark.parametrize('trunk', TRUNKS)
def test_heads_and_necks_are_left_out(trunk: str, tmp_path: Path) -> None:
    config = TRUNKS[trunk].config
    whole = timm.create_model(config['model_name'], num_classes=5, **config['model_args'])
    behind = whole.state_dict().keys() - state(trunk).keys()
    assert behind
    own = load(trunk, {**whole.state_dict(), **state(trunk)}, tmp_path)
    assert own.trunk.model.state_dict().keys() == state(trunk).keys()
    assert same(own(images(trunk)), backbone(trunk, 'Frozen')(images(trunk)))


def test_sam_release(tmp_path: Path) -> None:
    release = {
        f'image_encoder.{name.replace("mlp.fc", "mlp.lin")}': value
        for name, value in state('sam').items()
    }
    rest = {'image_encoder.neck.0.weight': torch.zeros(2), 'mask_decoder.x': torch.zeros(2)}
    own = load('sam', release | rest, tmp_path)
    assert same(own(images('sam')), backbone('sam', 'Frozen')(images('sam')))


@pytest.mark.parametrize('trunk', ['swin', 'swinv2'])
def test_swin_release(trunk: str, tmp_path: Path) -> None:
    """Microsoft merges patches at the end of a stage and stores what timm computes."""
    release = {
        name.replace('layers.1.downsample', 'layers.0.downsample'): value
        for name, value in state(trunk).items()
    }
    rest = {
        'head.weight': torch.zeros(5, 32),
        'head.bias': torch.zeros(5),
        'layers.0.blocks.1.attn_mask': torch.zeros(2),
        'layers.0.blocks.0.attn.relative_position_index': torch.zeros(2),
    }
    own = load(trunk, {'model': release | rest}, tmp_path)
    assert same(own(images(trunk)), backbone(trunk, 'Frozen')(images(trunk)))


# --- Settings. ---


@pytest.mark.parametrize(
    ('family', 'trunk', 'served'),
    [
        ('TimmSAM', 'hiera', 'TimmHiera'),
        ('TimmHieraDet', 'hiera', 'TimmHiera'),
        ('TimmHiera', 'hieradet', 'TimmHieraDet'),
        ('TimmHiera', 'sam', 'TimmSAM'),
        ('TimmSwin', 'swinv2_cr', 'TimmGeneric'),
    ],
)
def test_models_of_other_families(family: str, trunk: str, served: str) -> None:
    other = {
        'model_name': 'swinv2_cr_tiny_224',
        'model_args': {'embed_dim': 8, 'depths': (1, 1, 1, 1), 'num_heads': (1, 1, 1, 1)},
    }
    config = TRUNKS[trunk].config if trunk in TRUNKS else other
    with pytest.raises(InvalidSettingError, match=f"{family} cannot run .*type='{served}'"):
        build(REGISTRY, {**config, 'type': family, 'weights': 'random'})


def test_sam_with_rotary_embeddings_is_refused() -> None:
    config = TRUNKS['sam'].config
    args = {**config['model_args'], 'use_rel_pos': False, 'use_rope': True}
    with pytest.raises(InvalidSettingError, match='use_rope=True'):
        build(REGISTRY, {**config, 'weights': 'random', 'model_args': args})


def test_sam_without_position_embeddings_and_with_layer_scale() -> None:
    config = TRUNKS['sam'].config
    args = {
        **config['model_args'],
        'use_abs_pos': False,
        'use_rel_pos': False,
        'init_values': 0.1,
        'pre_norm': True,
    }
    own = build(REGISTRY, {**config, 'weights': 'random', 'model_args': args})
    model = timm.create_model(config['model_name'], num_classes=0, **args).eval()
    model.neck = model.head = nn.Identity()
    model.load_state_dict(own.model.state_dict())
    x = images('sam', 48, 96)
    with torch.no_grad():
        tokens, state = own.embed(x)
        for block, expected in zip(own.blocks(), every_block('sam', model, x), strict=True):
            base, branch, state = block.attention(tokens, state)
            tokens = base + branch
            tokens = tokens + block.mlp(tokens, state)
            assert torch.equal(state.layout.to_map(tokens), expected)


# --- The published architectures. ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ('family', 'model_name', 'size'),
    [
        ('TimmSAM', 'samvit_base_patch16', (96, 160)),
        ('TimmHieraDet', 'sam2_hiera_tiny', (96, 160)),
        ('TimmHieraDet', 'sam2_hiera_tiny', (480, 352)),
        ('TimmHieraDet', 'hieradet_small', (256, 256)),
        ('TimmHiera', 'hiera_tiny_224', (224, 224)),
        ('TimmHiera', 'hiera_tiny_224', (96, 160)),
        ('TimmHiera', 'hiera_small_abswin_256', (96, 160)),
        ('TimmSwin', 'swin_tiny_patch4_window7_224', (100, 164)),
        ('TimmSwin', 'swin_s3_tiny_224', (224, 224)),
        ('TimmSwin', 'swinv2_tiny_window8_256', (100, 164)),
    ],
)
def test_published_architectures(family: str, model_name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    trunk = {'type': family, 'model_name': model_name, 'weights': 'random'}
    own = AdaptedBackbone(trunk, sigma(position='both')).eval()
    with torch.no_grad():  # nothing zero, as the norms of Swin V2 and position tables are
        for parameter in own.trunk.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    options: dict[str, Any] = {'img_size': size} if family == 'TimmHiera' else {}
    options |= {'strict_img_size': False} if family == 'TimmSwin' else {}
    model: Any = timm.create_model(model_name, num_classes=0, **options).eval()
    model.head = nn.Identity()
    if family == 'TimmSAM':
        model.neck = nn.Identity()
    weights = dict(own.trunk.model.state_dict())
    if family == 'TimmHiera' and model.pos_embed_win is None:
        weights['pos_embed'] = own.trunk._position(*model.tokens_spatial_shape)
    model.load_state_dict(weights)
    x = images('swin', *size, batch=1)
    norm = family == 'TimmSwin'
    with torch.no_grad():
        maps = own(x)
        expected = model.forward_intermediates(x, norm=norm, intermediates_only=True)
    if family == 'TimmSAM':
        expected = [expected[index] for index in own.out_indices]
    assert same(maps, tuple(expected))
    assert own.out_strides == ([16] * 4 if family == 'TimmSAM' else [4, 8, 16, 32])
