"""ChunkedLossHook: losses, gradients and accuracies of mmseg, with less memory."""

import copy
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.samples import batch  # of tools/analysis_tools
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmsigma.engine.hooks import chunked_loss
from mmsigma.errors import InvalidSettingError
from mmsigma.registry import HOOKS
from tests.fixtures import ROOT, TINY

CLASSES = 5


def head(type: str = 'FCNHead', **settings: Any) -> Any:
    """A head of mmseg on one map of eight channels."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    given = dict(in_channels=8, channels=8, num_classes=CLASSES, dropout_ratio=0, **settings)
    return MODELS.build(dict(type=type, **given))


def entropy(**settings: Any) -> dict[str, Any]:
    return dict(type='CrossEntropyLoss', **settings)


def samples(count: int = 3, size: tuple[int, int] = (37, 50), ignored: int = 255) -> list[Any]:
    """Labels, a third of them to be ignored; of the last image all."""
    found = []
    for i in range(count):
        labels = torch.randint(CLASSES, (1, *size))
        labels[torch.rand(1, *size) < 1 / 3] = ignored
        if i == count - 1:
            labels.fill_(ignored)
        found.append(SegDataSample(gt_sem_seg=PixelData(data=labels)))
    return found


def results(own: Any, scores: Tensor, truth: list[Any], factor: float = 1) -> tuple[Any, Tensor]:
    """Losses, and the gradient of the scores."""
    scores = scores.clone().requires_grad_()
    losses = own.loss_by_feat(scores, truth)
    (losses['loss_ce'] * factor).backward()
    return losses, scores.grad


SETTINGS: dict[str, dict[str, Any]] = {
    'plain': {},
    'align-corners': dict(align_corners=True),
    'ignored-0': dict(ignore_index=0),
    'non-ignored': dict(loss_decode=entropy(avg_non_ignore=True)),
    'weighted': dict(loss_decode=entropy(class_weight=[1.0, 0.3, 2.0, 1.5, 0.1], loss_weight=0.4)),
    'list': dict(loss_decode=[entropy(loss_weight=0.4)]),
}


@pytest.mark.parametrize('images', [1, 2, 3])
@pytest.mark.parametrize('name', SETTINGS)
def test_losses_gradients_and_accuracies_are_mmsegs(
    name: str, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = head(**SETTINGS[name]).double()
    truth = samples(ignored=plain.ignore_index)
    scores = torch.randn(3, CLASSES, 9, 13, dtype=torch.float64)
    own = copy.deepcopy(plain)
    assert chunked_loss.chunk(own) == ['']
    monkeypatch.setattr(chunked_loss, 'CHUNK', images * 4 * CLASSES * 37 * 50)
    expected, expected_grad = results(plain, scores, truth, 3.0)
    found, found_grad = results(own, scores, truth, 3.0)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape
        torch.testing.assert_close(found[key].double(), value.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found_grad, expected_grad, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('name', ['plain', 'non-ignored', 'weighted'])
def test_all_pixels_ignored(name: str) -> None:
    plain = head(**SETTINGS[name])
    own = copy.deepcopy(plain)
    chunked_loss.chunk(own)
    scores, truth = torch.randn(1, CLASSES, 9, 13), samples(1)
    expected, expected_grad = results(plain, scores, truth)
    found, found_grad = results(own, scores, truth)
    assert torch.equal(found['loss_ce'], expected['loss_ce'])
    torch.testing.assert_close(found['acc_seg'], expected['acc_seg'])
    assert torch.equal(found_grad, expected_grad) and not found_grad.any()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_rounds_as_mmseg_does(dtype: torch.dtype) -> None:
    """Also where the gradient of a mean is below float16's range, and the loss is scaled."""
    plain = head()
    own = copy.deepcopy(plain)
    chunked_loss.chunk(own)
    truth = samples(3, (370, 500))
    scores = torch.randn(3, CLASSES, 93, 125)
    _, exact = results(plain, scores, truth, 2**16)
    with torch.autocast('cpu', dtype):
        errors = []
        for model in (plain, own):
            losses, grad = results(model, scores.to(dtype), truth, 2**16)
            assert grad.dtype == dtype and losses['loss_ce'].dtype == torch.float32
            errors.append((grad - exact).norm() / exact.norm())
    assert errors[1] < 1.2 * errors[0]


class Kept:
    """A tensor for the backward pass."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def test_what_is_kept_is_the_scores_gradient() -> None:
    plain = head()
    own = copy.deepcopy(plain)
    chunked_loss.chunk(own)
    scores, truth = torch.randn(3, CLASSES, 9, 13), samples()

    def kept(model: Any) -> int:
        alive: weakref.WeakSet[Kept] = weakref.WeakSet()

        def pack(value: Tensor) -> Kept:
            alive.add(box := Kept(value))
            return box

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.value):
            losses = model.loss_by_feat(scores.clone().requires_grad_(), truth)
        assert losses['loss_ce'].requires_grad  # and so its graph is there
        return sum(b.value.numel() for b in alive if b.value.is_floating_point())

    assert kept(plain) > 3 * CLASSES * 37 * 50
    assert kept(own) < 1.1 * scores.numel()


def test_without_gradients() -> None:
    plain = head()
    own = copy.deepcopy(plain)
    chunked_loss.chunk(own)
    scores, truth = torch.randn(3, CLASSES, 9, 13), samples()
    with torch.no_grad():
        expected, found = (m.loss_by_feat(scores, truth)['loss_ce'] for m in (plain, own))
    torch.testing.assert_close(found, expected)
    assert not own.loss_by_feat(scores, truth)['loss_ce'].requires_grad


def whole() -> Any:
    """A tiny model with two heads of mmseg."""
    config = Config.fromfile(ROOT / 'configs/camvid/sigma_dinov2-s_upernet_camvid-448x336.py')
    model = config.model
    model.backbone.trunk.update(weights='random', model_args=TINY)
    model.backbone.update(out_indices=[0, 1, 2, 3], tuner=dict(type='SIGMA', bottleneck=8))
    model.neck.update(in_channels=[32] * 4, out_channels=16)
    model.decode_head.update(in_channels=[16] * 4, channels=16, pool_scales=(1, 2), dropout_ratio=0)
    model.auxiliary_head = dict(
        type='FCNHead', in_channels=16, channels=16, in_index=2, num_convs=1, dropout_ratio=0,
        num_classes=11, loss_decode=entropy(loss_weight=0.4),
    )  # fmt: skip
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(model).train()


def test_a_whole_model() -> None:
    plain = whole()
    own = copy.deepcopy(plain)
    hook = HOOKS.build(dict(type='mmsigma.ChunkedLossHook'))
    said: list[str] = []
    for _ in range(2):  # a test at the end of a training is a run, too
        hook.before_run(SimpleNamespace(model=own, logger=SimpleNamespace(info=said.append)))
    assert said == ['Loss and accuracy in chunks of images: decode_head, auxiliary_head.']
    copied = copy.deepcopy(own)  # as for a mean of weights
    assert copied.decode_head.loss_by_feat.args == (copied.decode_head,)
    assert plain.state_dict().keys() == own.state_dict().keys()
    found = []
    for model in (plain, copied):
        torch.manual_seed(1)
        data = model.data_preprocessor(batch('mmseg', (72, 96), 2), training=True)
        total, losses = model.parse_losses(model(**data, mode='loss'))
        total.backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append({**{n: v.detach() for n, v in losses.items()}, **grads})
    assert found[0].keys() == found[1].keys()
    largest = max(value.norm() for value in found[0].values())
    for name, value in found[0].items():
        assert (found[1][name] - value).norm() <= 1e-4 * value.norm() + 1e-7 * largest, name


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(sampler=dict(type='OHEMPixelSampler')), 'a sampler'),
        (dict(loss_decode=dict(type='DiceLoss')), 'not one softmax cross-entropy'),
        (dict(loss_decode=entropy(use_sigmoid=True)), 'not one softmax cross-entropy'),
        (dict(loss_decode=[entropy(), dict(type='DiceLoss')]), 'not one softmax cross-entropy'),
        (dict(loss_decode=entropy(reduction='none')), "reduction='none'"),
        (dict(loss_decode=entropy(class_weight=[1.0] * CLASSES, avg_non_ignore=True)), 'with avg'),
        (dict(type='DAHead', pam_channels=4), 'a loss of its own'),
    ],
)
def test_heads_that_are_not_served(settings: dict[str, Any], said: str) -> None:
    own = head(**settings)
    with pytest.raises(InvalidSettingError, match=said):
        chunked_loss.chunk(torch.nn.ModuleDict({'decode_head': own}))
    assert 'loss_by_feat' not in vars(own)
    both = torch.nn.ModuleDict({'decode_head': own, 'auxiliary_head': head()})
    assert chunked_loss.chunk(both) == ['auxiliary_head']


def test_a_model_without_heads_of_mmseg() -> None:
    with pytest.raises(InvalidSettingError, match='no head of mmseg'):
        chunked_loss.chunk(torch.nn.Linear(2, 2))
