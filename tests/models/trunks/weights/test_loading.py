"""Weight files: what loads, and what every bad file is told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.base import Trunk
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.sample import sampled
from tests.tiny import KINDS, TRUNKS, backbone, images, state, trunk_config

TORCH, SAFETENSORS = 'file.pth', 'file.safetensors'
# Weights that every trunk is given, its own or not: of every upstream code base, plain and not.
OTHERS = ('dinov2', 'siglip', 'dinov3', 'beit', 'swin', 'mmpretrain', 'mmpretrain-swin')
HEADS = ('head.', 'attn_pool.', 'fc_norm.', 'ln1.')  # behind the trunk, in one or another


def load(path: object, trunk: str = 'dinov2', **options: object) -> Trunk:
    return build(REGISTRY, trunk_config(trunk, weights=path, **options))


def message(path: object, trunk: str = 'dinov2', **options: object) -> str:
    with pytest.raises(WeightsError) as caught:
        load(path, trunk, **options)
    return str(caught.value)


def write(path: Path, tensors: dict) -> None:
    if path.suffix == '.safetensors':
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


# --- What loads. ---


@pytest.mark.parametrize(
    ('trunk', 'name'),
    [(trunk, SAFETENSORS) for trunk in TRUNKS]
    + [('dinov2', name) for name in (TORCH, 'file.pt', 'file.bin')],
)
def test_files_load_at_once_and_exactly(trunk: str, name: str, tmp_path: Path) -> None:
    write(tmp_path / name, state(trunk))
    for path in (str(tmp_path / name), tmp_path / name):
        own = load(path, trunk)
        assert own.loaded
        tensors = own.model.state_dict()
        assert all(torch.equal(value, state(trunk)[key]) for key, value in tensors.items())
        assert all(key.startswith(HEADS) for key in state(trunk).keys() - tensors.keys())
        assert own.fingerprint == load(tmp_path / name, trunk).fingerprint


@pytest.mark.parametrize('wrapper', ['state_dict', 'model', 'teacher'])
@pytest.mark.parametrize('trunk', ['dinov2', 'mmpretrain'])
def test_checkpoints_are_unwrapped(trunk: str, wrapper: str, tmp_path: Path) -> None:
    torch.save({wrapper: state(trunk), 'meta': {'epoch': 3}}, tmp_path / TORCH)
    own = load(tmp_path / TORCH, trunk).model.state_dict()
    assert all(torch.equal(value, state(trunk)[key]) for key, value in own.items())


def test_heads_of_releases_are_left_out(tmp_path: Path) -> None:
    head = {'head.weight': torch.zeros(5, 32), 'head.bias': torch.zeros(5)}
    write(tmp_path / SAFETENSORS, state('dinov2') | head)
    assert load(tmp_path / SAFETENSORS).loaded

    prefixed = {f'backbone.{name}': value for name, value in state('mmpretrain').items()}
    prefixed['head.layers.head.weight'] = torch.zeros(5, 32)
    write(tmp_path / TORCH, {'state_dict': prefixed})
    assert load(tmp_path / TORCH, 'mmpretrain').loaded


@pytest.mark.parametrize(
    'model_name',
    ['test_convnext', 'test_efficientnet', 'test_mambaout', 'deit_tiny_distilled_patch16_224'],
)
def test_classifiers_of_any_timm_model_are_left_out(model_name: str, tmp_path: Path) -> None:
    whole = timm.create_model(model_name, num_classes=7).state_dict()
    write(tmp_path / SAFETENSORS, whole)
    config = {'type': 'TimmGeneric', 'model_name': model_name}
    own = build(REGISTRY, {**config, 'weights': str(tmp_path / SAFETENSORS)}).model.state_dict()
    left_out = whole.keys() - own.keys()
    assert all(torch.equal(value, whole[key]) for key, value in own.items())
    assert left_out and all(len(whole[key]) == 7 for key in left_out)


def test_without_final_norm_mmpretrain_needs_none_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / SAFETENSORS, {k: v for k, v in state('mmpretrain').items() if k[:4] != 'ln1.'})
    assert load(tmp_path / SAFETENSORS, 'mmpretrain', final_norm=False).loaded
    assert 'ln1.bias, ln1.weight' in message(tmp_path / SAFETENSORS, 'mmpretrain')


def test_position_embedding_is_resampled_as_timm_does(tmp_path: Path) -> None:
    """Weights of another image size give the features of timm's own conversion."""
    args = {**TRUNKS['dinov2'].config['model_args'], 'img_size': 84}
    other = timm.create_model('vit_small_patch14_dinov2', num_classes=0, global_pool='', **args)
    write(tmp_path / TORCH, other.state_dict())
    own = load(tmp_path / TORCH).model.pos_embed
    mine = timm.create_model('vit_small_patch14_dinov2', **{**args, 'img_size': 56})
    from timm.models.vision_transformer import checkpoint_filter_fn

    assert torch.equal(own, checkpoint_filter_fn(other.state_dict(), mine)['pos_embed'])


def test_random_weights_are_not_called_loaded() -> None:
    torch.manual_seed(0)
    first, second = load('random'), load('random')
    assert not first.loaded
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize('trunk', TRUNKS)
def test_random_weights_run(trunk: str) -> None:
    maps = backbone(trunk, 'Frozen', trunk_options={'weights': 'random'})(images(trunk))
    assert all(m.isfinite().all() for m in maps)


# --- Bad files. ---


def test_missing_file_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / 'other.pth').touch()
    (tmp_path / 'notes.txt').touch()
    text = message(str(tmp_path / TORCH))
    assert f'{tmp_path / TORCH}' in text and 'do not exist' in text
    assert f'{tmp_path} holds other.pth.' in text
    assert "'hub'" in text and "'random'" in text


def test_missing_folder(tmp_path: Path) -> None:
    assert f'the folder {tmp_path / "no"} does not exist' in message(str(tmp_path / 'no' / TORCH))


@pytest.mark.parametrize('given', [None, 7])
def test_no_path(given: object) -> None:
    text = message(given)
    assert repr(given) in text and "'hub' or 'random'" in text


@pytest.mark.parametrize('part', [0.0, 0.00001, 0.0001, 0.01, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('name', [TORCH, SAFETENSORS])
def test_truncated_file(name: str, legacy: bool, part: float, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == TORCH:
        torch.save(state('dinov2'), path, _use_new_zipfile_serialization=not legacy)
    else:
        save_file(state('dinov2'), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    text = message(str(path))
    assert str(path) in text and f'({int(part * len(whole)):,} bytes)' in text
    assert 'truncated' in text and 'fetch it again' in text


@pytest.mark.parametrize('content', [b'<html>404</html>', b'version https://git-lfs.github.com/'])
@pytest.mark.parametrize('name', [TORCH, SAFETENSORS])
def test_file_of_something_else(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    text = message(str(tmp_path / name))
    assert 'not what its name says' in text and 'weights_only' not in text


class Code:
    """Pickled, it runs a command when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('legacy', [False, True])
def test_code_in_a_file_does_not_run(legacy: bool, tmp_path: Path) -> None:
    content = {'state_dict': state('dinov2'), 'hook': Code(tmp_path / 'ran')}
    torch.save(content, tmp_path / TORCH, _use_new_zipfile_serialization=not legacy)
    text = message(str(tmp_path / TORCH))
    assert not (tmp_path / 'ran').exists()
    assert 'would run code' in text and 'mkdir' in text and 'convert it once' in text
    torch.load(tmp_path / TORCH, weights_only=False)
    assert (tmp_path / 'ran').exists()  # it would have


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        ({'meta': 1, 'epoch': 2}, 'meta, epoch'),
        ([torch.zeros(1)], 'a list'),
        (torch.zeros(1), 'a Tensor'),
    ],
    ids=str,
)
def test_file_without_named_tensors(content: object, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / TORCH)
    text = message(str(tmp_path / TORCH))
    assert f'found: {found}.' in text and 'state_dict / model' in text


def without(name: str) -> Callable:
    return lambda s: {k: v for k, v in s.items() if k != name}


def with_(name: str, value: torch.Tensor) -> Callable:
    return lambda s: {**s, name: value}


NORM = {'dinov2': 'norm.weight', 'mmpretrain': 'ln1.weight'}


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda n: without(n), '1 missing keys ({n}'),
        (lambda n: with_('x.y', torch.zeros(1)), '1 unknown keys (x.y'),
        (lambda n: with_(n, torch.zeros(3)), '1 other shapes ({n} is (3,) in the file, (32,) in'),
        (lambda n: with_('pos_embed', torch.zeros(1, 15, 32)), ''),
        (lambda n: with_('pos_embed', torch.zeros(3)), ''),
        (lambda n: with_('pos_embed', torch.zeros(1, 17, 48)), '48'),
    ],
)
@pytest.mark.parametrize('trunk', NORM)
def test_weights_that_do_not_fit(
    trunk: str, change: Callable, expected: str, tmp_path: Path
) -> None:
    write(tmp_path / SAFETENSORS, change(NORM[trunk])(state(trunk)))
    text = message(str(tmp_path / SAFETENSORS), trunk)
    assert str(tmp_path / SAFETENSORS) in text
    assert expected.format(n=NORM[trunk]) in text
    assert 'do not fit this architecture' in text and 'Give the weights of this' in text


def shapes(trunk: str) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state(trunk).items() if not k.startswith(HEADS)}


@pytest.mark.parametrize('theirs', OTHERS)
@pytest.mark.parametrize('ours', sampled(TRUNKS, KINDS.__contains__))
def test_weights_of_another_family(ours: str, theirs: str, tmp_path: Path) -> None:
    write(tmp_path / SAFETENSORS, state(theirs))
    if shapes(ours) == shapes(theirs):  # nothing in the file tells them apart
        load(tmp_path / SAFETENSORS, ours)
    else:
        assert 'do not fit this architecture' in message(tmp_path / SAFETENSORS, ours)


@pytest.mark.parametrize('args', [{'embed_dim': 64}, {'depth': 3}, {'num_heads': 4}])
def test_weights_of_another_size(args: dict) -> None:
    options = {'model_args': {**TRUNKS['dinov2'].config['model_args'], **args}}
    if 'num_heads' in args:  # nothing in the file tells
        load(trunk_config()['weights'], **options)
    else:
        assert 'do not fit' in message(trunk_config()['weights'], **options)


# --- The hub. ---


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has weights for images of 56 pixels."""
    create = timm.create_model

    def fake(name: str, pretrained: bool = False, **arguments: object) -> torch.nn.Module:
        if not pretrained:
            return create(name, **arguments)
        assert name == 'vit_small_patch14_dinov2'
        model = create(name, **{'img_size': 56, **arguments})
        model.load_state_dict(state('dinov2'), strict=False)
        return model

    monkeypatch.setattr(timm, 'create_model', fake)


def test_hub_loads_through_timm(hub: None) -> None:
    own = load('hub')
    assert own.loaded
    assert all(torch.equal(v, state('dinov2')[k]) for k, v in own.model.state_dict().items())


@pytest.mark.parametrize('method', ['bicubic', 'bicubic-antialias'])
def test_hub_at_another_size_is_as_the_file(hub: None, method: str) -> None:
    args = {**TRUNKS['dinov2'].config['model_args'], 'img_size': (28, 84)}
    options = {'model_args': args, 'pos_resample': method}
    own, other = load('hub', **options), load(trunk_config()['weights'], **options)
    assert own.fingerprint == other.fingerprint != load('hub').fingerprint


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **arguments: object) -> torch.nn.Module:
        if pretrained:
            raise OSError('no route to host')
        return create(name, **arguments)

    monkeypatch.setattr(timm, 'create_model', offline)
    text = message('hub')
    assert 'vit_small_patch14_dinov2' in text and 'no route to host' in text
    assert 'give the file as `weights`' in text


def test_mmpretrain_has_no_hub() -> None:
    text = message('hub', 'mmpretrain')
    assert 'MMPretrainViT' in text and 'TimmViT' in text and '`weights`' in text
