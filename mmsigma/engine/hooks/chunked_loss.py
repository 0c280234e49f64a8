"""The cross-entropy of mmseg's heads, a few images at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.registry import HOOKS

CHUNK = 2**28  # bytes of float32 scores at the labels' size; one image of ADE20K has 2**27.2
EPS = torch.finfo(torch.float32).eps  # that mmseg adds to what it divides by


@HOOKS.register_module()
class ChunkedLossHook(Hook):
    """Lets mmseg's heads compute loss and accuracy with memory for a few images, not for all.

    A head resizes its scores to the labels' size, ``(B, classes, H, W)``, and keeps several tensors
    of that size until the backward pass: for 16 images of ADE20K 2.5 GB each. With this hook the
    loss and its gradient are computed together, for few images at a time, and only the gradient of
    the scores as the head gives them is kept. Values are mmseg's within rounding.

    It serves heads whose loss is one softmax cross-entropy that is averaged over pixels, without a
    sampler; others keep their own. See :func:`chunk` for errors.
    """

    def before_run(self, runner: Any) -> None:
        """Prepare the model, once: a test at the end of a training is a run, too."""
        served = chunk(runner.model)
        if served:
            runner.logger.info(f'Loss and accuracy in chunks of images: {", ".join(served)}.')


def chunk(model: nn.Module) -> list[str]:
    """Prepare a model; see :class:`ChunkedLossHook`.

    Returns:
        Names of the heads that are served, without those that were before.

    Raises:
        InvalidSettingError: None is.
    """
    heads = {name: m for name, m in model.named_modules() if hasattr(m, 'loss_by_feat')}
    reasons = {name: _unserved(head) for name, head in heads.items()}
    if all(reasons.values()):
        found = '; '.join(
            f'{name} ({type(heads[name]).__name__}): {reasons[name]}' for name in heads
        )
        raise InvalidSettingError(
            'ChunkedLossHook is for heads of mmseg with one softmax cross-entropy. Given: '
            f'{found or "no head of mmseg"}. Leave it out of custom_hooks.'
        )
    served = [n for n in heads if not reasons[n] and 'loss_by_feat' not in vars(heads[n])]
    for name in served:
        heads[name].loss_by_feat = partial(_loss_by_feat, heads[name])
    return served


def _unserved(head: Any) -> str:
    """Why a head keeps its own; empty if it does not."""
    if getattr(type(head).loss_by_feat, '__qualname__', '') != 'BaseDecodeHead.loss_by_feat':
        return 'a loss of its own'
    if head.sampler is not None:
        return 'a sampler'
    loss = _loss(head)
    if type(loss).__name__ != 'CrossEntropyLoss' or loss.use_sigmoid or loss.use_mask:
        return 'not one softmax cross-entropy'
    if loss.reduction != 'mean':
        return f'reduction={loss.reduction!r}'
    if loss.class_weight is not None and loss.avg_non_ignore:
        return 'class_weight with avg_non_ignore=True, which mmseg itself cannot compute'
    return ''


def _loss(head: Any) -> Any:
    """The head's one loss, or all of them."""
    several = isinstance(head.loss_decode, nn.ModuleList)
    return head.loss_decode[0] if several and len(head.loss_decode) == 1 else head.loss_decode


def _loss_by_feat(head: Any, scores: Tensor, samples: list[Any]) -> dict[str, Tensor]:
    """What mmseg's ``BaseDecodeHead.loss_by_feat`` returns: loss and pixel accuracy in percent."""
    labels = head._stack_batch_gt(samples).squeeze(1)
    loss, ignored = _loss(head), head.ignore_index

    def summed(part: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        whole = F.interpolate(
            part, truth.shape[1:], mode='bilinear', align_corners=head.align_corners
        )
        value = loss(whole, truth, ignore_index=ignored, reduction_override='sum')
        with torch.no_grad():
            right = (whole.argmax(dim=1) == truth) & (truth != ignored)
        return value, right.sum()

    images = max(1, CHUNK // (4 * scores.shape[1] * labels[0].numel()))
    value, right = _Chunked.apply(scores, labels, summed, images)
    counted = (labels != ignored).sum()
    accuracy = (right.float() + EPS) * (100.0 / (counted + EPS))
    return {
        loss.loss_name: value / (_divisor(loss, labels, ignored, counted) + EPS),
        'acc_seg': accuracy.reshape(1),
    }


def _divisor(loss: Any, labels: Tensor, ignored: int, counted: Tensor) -> Tensor | int:
    """By what mmseg's ``cross_entropy`` divides the sum over all pixels."""
    if loss.class_weight is not None:
        weights = torch.tensor(loss.class_weight, dtype=torch.float32, device=labels.device)
        return weights[labels[labels != ignored]].sum()
    return counted if loss.avg_non_ignore else labels.numel()


class _Chunked(torch.autograd.Function):
    """A sum over images and its gradient, both in the forward pass.

    The gradient of a sum over pixels, not of a mean: that may be too small for float16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        labels: Tensor,
        summed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        images: int,
    ) -> tuple[Tensor, Tensor]:
        trains = ctx.needs_input_grad[0]
        values, rights = [], []
        grads: list[Tensor] = []
        for part, truth in zip(scores.split(images), labels.split(images), strict=True):
            with torch.set_grad_enabled(trains):
                part = part.detach().requires_grad_(trains)
                value, right = summed(part, truth)
            if trains:
                grads += torch.autograd.grad(value, part)
            values.append(value.detach())
            rights.append(right)
        if trains:
            ctx.save_for_backward(torch.cat(grads))
        right = torch.stack(rights).sum()
        ctx.mark_non_differentiable(right)
        return torch.stack(values).sum(), right

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (of_scores,) = ctx.saved_tensors
        return of_scores * grad, None, None, None
