"""mmpretrain's families on grids other than their own, Swin's stages, and its own configs."""

import importlib
import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.interpolate
import torch
from mmengine.config import Config
from torch import Tensor

from mmsigma.errors import InvalidInputError, InvalidSettingError
from mmsigma.models.trunks import mmpretrain_models
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.tuners.injection import AdapterBank
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.tiny import TRUNKS, backbone, images, loss, same, state, trunk_config, upstream_maps
from tests.tiny_trunks.mmpretrain_hierarchical import stage_maps
from tests.tiny_trunks.mmpretrain_plain import weights_only

MMPRETRAIN = [name for name in TRUNKS if name.startswith('mmpretrain')]
BEIT, SWIN, V2 = 'mmpretrain-beit', 'mmpretrain-swin', 'mmpretrain-swinv2'
UPSTREAM = {family: name for name, family in mmpretrain_models.FAMILIES.items()}


def upstream_class(trunk: str) -> Any:
    import mmpretrain.models

    return getattr(mmpretrain.models, UPSTREAM[TRUNKS[trunk].config['type']])


def load(path: object, trunk: str, **options: Any) -> Trunk:
    return build(REGISTRY, trunk_config(trunk, weights=str(path), **options))


def args(trunk: str, **more: Any) -> dict[str, Any]:
    return {**TRUNKS[trunk].config['model_args'], **more}


def save(path: Path, tensors: dict[str, Tensor], prefix: str = '') -> Path:
    torch.save({'state_dict': {prefix + k: v for k, v in tensors.items()}}, path)
    return path


# --- Grids other than the native one. ---


class Interp2d:
    """What SciPy names as the replacement of the ``interp2d`` that upstream calls."""

    def __init__(self, x: Any, y: Any, z: Any, kind: str) -> None:
        assert kind == 'cubic'
        self.x, self.y = np.asarray(x), np.asarray(y)
        self.spline = scipy.interpolate.RectBivariateSpline(self.y, self.x, z)

    def __call__(self, x: Any, y: Any) -> Any:
        return self.spline(y.clip(self.y[0], self.y[-1]), x.clip(self.x[0], self.x[-1]))


@pytest.mark.parametrize(('source', 'target'), [(7, 8), (7, 12), (14, 32), (4, 2), (14, 5), (3, 1)])
def test_tables_are_resized_as_upstream_does(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmpretrain.models.utils import resize_relative_position_bias_table

    monkeypatch.setattr(scipy.interpolate, 'interp2d', Interp2d)
    torch.manual_seed(0)
    table = torch.randn((2 * source - 1) ** 2, 3)
    theirs = resize_relative_position_bias_table(2 * source - 1, 2 * target - 1, table, 3)
    ours = mmpretrain_models.resize_table(table, (source, source), (target, target))
    assert (ours - theirs).abs().max() <= 1e-6


def test_rows_and_columns_of_tables_are_resized_apart() -> None:
    torch.manual_seed(0)
    table = torch.randn(9 * 13, 2)

    def resize(source: tuple[int, int], target: tuple[int, int], values: Tensor) -> Tensor:
        return mmpretrain_models.resize_table(values, source, target)

    whole = resize((5, 7), (8, 4), table)
    assert torch.allclose(resize((8, 7), (8, 4), resize((5, 7), (8, 7), table)), whole, atol=1e-6)
    turned = table.unflatten(0, (9, 13)).transpose(0, 1).flatten(0, 1)
    back = resize((7, 5), (4, 8), turned).unflatten(0, (7, 15)).transpose(0, 1).flatten(0, 1)
    assert torch.allclose(back, whole, atol=1e-6)
    assert torch.equal(resize((5, 7), (5, 7), table), table)


@pytest.mark.parametrize('trunk', [BEIT, 'mmpretrain-beit-shared'])
@pytest.mark.parametrize('side', [48, 96, 160])
def test_beit_equals_upstream_built_for_the_size(
    trunk: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream's own loading resizes the tables; it does squares only."""
    monkeypatch.setattr(scipy.interpolate, 'interp2d', Interp2d)
    model = upstream_class(trunk)(
        TRUNKS[trunk].config['arch'],
        out_type='featmap',
        final_norm=True,
        **args(trunk, img_size=side),
    )
    weights_only(model).load_state_dict(state(trunk))
    model.eval()
    x = images(trunk, side, side)
    own = backbone(trunk, 'Frozen')(x)[-1]
    assert (own - model(x)[-1]).abs().max() <= 2e-5


@pytest.mark.parametrize('trunk', ['mmpretrain', 'mmpretrain-eva02', 'mmpretrain-sam', V2])
def test_any_size_equals_upstream_built_for_the_size(trunk: str) -> None:
    """Upstream resizes positions when it loads weights: the same as doing so for each image."""
    tiny, size = TRUNKS[trunk], (6 * TRUNKS[trunk].patch, 7 * TRUNKS[trunk].patch)
    given = args(trunk, img_size=size)
    if 'swin' in trunk:
        given |= {'out_indices': [1], 'pad_small_map': True}
    else:
        given |= {'out_type': 'featmap'} | ({'out_channels': 0} if 'sam' in trunk else {})
    model = weights_only(upstream_class(trunk)(tiny.config['arch'], **given))
    model.load_state_dict(dict(state(trunk)))
    model.requires_grad_(False).eval()
    x = images(trunk, *size)
    assert torch.equal(backbone(trunk, 'Frozen')(x)[-1], model(x)[-1])


@pytest.mark.parametrize('trunk', MMPRETRAIN)
def test_everything_trains_on_every_grid(trunk: str) -> None:
    """Gradients pass through resized tables, also those kept from a pass without any."""
    tiny = TRUNKS[trunk]
    own = backbone(trunk, 'Full')
    x = images(trunk, 3 * tiny.patch, 5 * tiny.patch)
    with torch.inference_mode():
        own(x)
    loss(own(x)).backward()
    assert [name for name, p in own.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize('trunk', MMPRETRAIN)
def test_an_image_leaves_the_trunk_as_it_was(trunk: str) -> None:
    """Upstream's EVA-02 would keep the tables of the last grid, and save them."""
    tiny = TRUNKS[trunk]
    own = backbone(trunk, 'Frozen')
    before = {k: v.clone() for k, v in own.trunk.state_dict().items()}
    first = own(images(trunk))
    own(images(trunk, 3 * tiny.patch, 5 * tiny.patch))
    after = own.trunk.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert same(own(images(trunk)), first)


# --- Swin's stages. ---


@pytest.mark.parametrize('trunk', [SWIN, V2, 'mmpretrain-swinv2-extra'])
def test_weights_with_norms_of_all_stages(trunk: str, tmp_path: Path) -> None:
    """Of a detector's backbone: every map passes its norm, as upstream's own maps."""
    arch = TRUNKS[trunk].config['arch']
    model = weights_only(
        upstream_class(trunk)(arch, out_indices=[0, 1], pad_small_map=True, **args(trunk))
    )
    torch.manual_seed(0)
    extra = {k: torch.randn(16) for k in ('norm0.weight', 'norm0.bias')}
    model.load_state_dict({**state(trunk), **extra})
    model.requires_grad_(False).eval()
    path = save(tmp_path / 'w.pth', model.state_dict(), 'backbone.')
    x = images(trunk, 20, 28)
    assert same(backbone(trunk, 'Frozen', trunk_options={'weights': str(path)})(x), model(x))
    bare = backbone(trunk, 'Frozen', trunk_options={'weights': str(path), 'final_norm': False})
    assert same(bare(x), tuple(stage_maps(model, x, False)))


@pytest.mark.parametrize('outputs', [[0], [1], [0, 2], [1, 2], [3]], ids=str)
@pytest.mark.parametrize('trunk', [SWIN, V2, 'mmpretrain-swinv2-extra', 'mmpretrain-swin-4'])
def test_nothing_trains_in_vain(trunk: str, outputs: list[int]) -> None:
    own = backbone(trunk, 'Full', out_indices=outputs)
    loss(own(images(trunk))).backward()
    idle = [n for n, p in own.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


def test_an_output_within_a_stage_is_what_the_block_gives() -> None:
    """Only a stage's last map has a norm; an extra norm belongs to the block before it."""
    trunk = 'mmpretrain-swinv2-extra'
    x = images(trunk)
    within, end = backbone(trunk, 'Frozen', out_indices=[0, 1])(x)
    first = upstream_maps(trunk, x, norm=False)[0]
    assert torch.equal(end, first)
    assert within.shape == end.shape and not torch.allclose(within, end)


@pytest.mark.parametrize('trunk', [SWIN, V2])
def test_small_maps_as_classifiers_have_them(trunk: str) -> None:
    """Without padding, a map of one window is not shifted, and a smaller one an error."""
    given = args(trunk, window_size=2, pad_small_map=False)
    arch = TRUNKS[trunk].config['arch']
    model = weights_only(upstream_class(trunk)(arch, out_indices=[1], **given))
    tensors = model.state_dict()
    for key, value in state(trunk).items():
        if value.shape == tensors[key].shape:
            tensors[key] = value
    model.load_state_dict(tensors)
    model.requires_grad_(False).eval()
    own = load('random', trunk, model_args=given)
    own.model.load_state_dict(tensors)
    x = images(trunk, 16, 16)

    def last(trunk_: Trunk, pixels: Tensor) -> Tensor:
        return trunk_.maps(trunk_.pad(pixels), AdapterBank(), [3])[0]

    own.requires_grad_(False)
    assert torch.equal(last(own, x), model(x)[0])
    shifted = load('random', trunk, model_args={**given, 'pad_small_map': True})
    shifted.model.load_state_dict(tensors)
    assert not torch.allclose(last(shifted, x), model(x)[0])
    with pytest.raises(InvalidInputError) as caught:
        own.pad(images(trunk, 8, 16))
    assert '8 x 16 pixels' in str(caught.value) and 'at least 16 pixels' in str(caught.value)


# --- The configs that mmpretrain comes with. ---


def configs(*folders: str) -> list[str]:
    spec = importlib.util.find_spec('mmpretrain')
    assert spec and spec.origin
    root = Path(spec.origin).parent / '.mim' / 'configs'
    found = (str(path) for folder in folders for path in (root / folder).rglob('*.py'))
    # Two configs use a variable that none of their bases has: MMEngine cannot read them.
    return sorted(path for path in found if not path.endswith('w12_8xb128_in21k-192px.py'))


@pytest.mark.slow
@pytest.mark.parametrize(
    'path',
    configs('dinov2', 'eva', 'eva02', 'sam', 'swin_transformer', 'swin_transformer_v2')
    + configs('beit/benchmarks', 'beitv2/benchmarks', 'deit3', 'vision_transformer'),
    ids=lambda path: Path(path).stem,
)
def test_every_config_is_built_or_says_why(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, which gives shapes and no values."""
    name = Config.fromfile(path).model.backbone.type
    if name not in mmpretrain_models.FAMILIES:
        with pytest.raises(InvalidSettingError, match=name):
            mmpretrain_models.settings('BEiTViT', path, None)
        return
    # Swin reads rates from a tensor while it is built.
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
    with torch.device('meta'):
        own = build(
            REGISTRY,
            {'type': mmpretrain_models.FAMILIES[name], 'arch': path, 'weights': 'random'},
        )
    assert own.fingerprint == 'meta' and own.name.startswith(f'mmpretrain/{name}-')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('file', 'size'),
    [
        ('dinov2/vit-small-p14_dinov2-pre_headless.py', (42, 57)),
        ('vision_transformer/vit-base-p16_64xb64_in1k.py', (48, 33)),
        ('beitv2/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py', (224, 224)),
        ('eva02/eva02-tiny-p14_in1k.py', (42, 57)),
        ('eva02/eva02-base-p14_headless.py', (57, 42)),
        ('sam/vit-base-p16_sam_headless.py', (250, 64)),
        ('swin_transformer/swin-tiny_16xb64_in1k.py', (97, 60)),
        ('swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px.py', (97, 60)),
    ],
)
def test_real_architectures_equal_upstream(file: str, size: tuple[int, int]) -> None:
    path = configs(file.rpartition('/')[0])[0].rpartition('configs/')[0] + 'configs/' + file
    given = Config.fromfile(path).model.backbone.to_dict()
    name = given.pop('type')
    family = mmpretrain_models.FAMILIES[name]
    own = build(REGISTRY, {'type': family, 'arch': path, 'weights': 'random'})
    own.requires_grad_(False)
    given.pop('init_cfg', None)
    given |= {'pad_small_map': True} if 'Swin' in name else {'out_type': 'featmap'}
    given |= {'out_channels': 0} if 'SAM' in name else {}
    model = weights_only(getattr(importlib.import_module('mmpretrain.models'), name)(**given))
    model.load_state_dict(own.model.state_dict())
    model.requires_grad_(False).eval()
    x = own.pad(torch.randn(1, 3, *size))
    last = len(own.blocks()) - 1
    assert torch.equal(own.maps(x, AdapterBank(), [last])[0], model(x)[-1])
