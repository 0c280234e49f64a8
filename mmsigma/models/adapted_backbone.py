"""AdaptedBackbone: a frozen trunk, a tuner, and the maps that dense heads read.

::

    image (B,3,H,W) ─pad─> trunk.embed ─> tokens (B,P+hw,C) ─> [block, adapters] x depth
      at each output block: trunk.norm ─> map (B,C,h,w) ─crop─> neck, head
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mmsigma.checkpoint import record as checkpoint_record
from mmsigma.errors import (
    CheckpointMismatchError,
    InvalidSettingError,
    UnknownNameError,
    unknown,
)
from mmsigma.models.execution.compiled import Compiled
from mmsigma.models.execution.cuda_graphs import CudaGraphs
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block, resolve_indices
from mmsigma.models.tuners.base import Tuner
from mmsigma.models.tuners.injection import AdapterBank, InjectionContext, run_block
from mmsigma.registry import MODELS, TRUNKS, TUNERS, build

AUTOCAST = {'bfloat16': torch.bfloat16, 'float16': torch.float16}
_TRUNK = 'trunk.'
_RECORD = '_extra_state'


@MODELS.register_module()
class AdaptedBackbone(nn.Module):
    """A backbone for any mmseg or mmdet model: a frozen trunk with a tuner's adapters.

    It is no ``BaseModule``: the trunk has its weights when it is built, so MMEngine's
    ``init_weights``, which would overwrite them, must find nothing to call here.

    Args:
        trunk: ``dict(type=<family>, weights=..., ...)``; see :mod:`mmsigma.models.trunks`. Or the
            trunk of another backbone, to share its weights: see :mod:`mmsigma.apis.multi_task`.
        tuner: ``dict(type=<method>, ...)``; see :mod:`mmsigma.models.tuners`.
        out_indices: Blocks whose output becomes a map, in any order, negative from the end;
            by default the last block of each stage, or four blocks of a plain trunk, evenly spaced,
            the last one included. No block runs behind the last output.
        autocast: ``'bfloat16'`` or ``'float16'``: what trunk and adapters compute in, in training
            and evaluation, while neck and head, with losses and operators that know float32 alone,
            stay outside. None leaves it to the surroundings.
        with_cp: Activation checkpointing: of every block that gradients reach, with its adapters,
            only the input is kept, and the backward pass computes the block again: the same
            gradients, in less memory and more time; see docs/precision.md.
        compile: Whether blocks, with their adapters, run through ``torch.compile``, or a dict of
            its arguments, as MMEngine's own ``compile``, which takes the whole model; see
            :mod:`mmsigma.models.execution.compiled` and docs/performance.md.
        cuda_graphs: Whether passes on a GPU are recorded, for each size of image, and replayed; see
            :mod:`mmsigma.models.execution.cuda_graphs` and docs/performance.md.

    Raises:
        UnknownNameError, InvalidSettingError, WeightsError: From trunk and tuner.
        UnknownNameError: Another ``autocast``.
        InvalidSettingError: A ``with_cp`` or ``cuda_graphs`` that is neither True nor False, or
            both, which exclude each other, ``autocast`` in another
            half precision than the trunk's, an output block that the trunk does not have, a
            shared trunk with a tuner that changes it, ``compile`` of a trunk that runs whole or
            looks up tables, or with what ``torch.compile`` refuses.
    """

    def __init__(
        self,
        trunk: dict[str, Any] | Trunk,
        tuner: dict[str, Any],
        out_indices: Sequence[int] | None = None,
        autocast: str | None = None,
        with_cp: bool = False,
        compile: bool | Mapping[str, Any] = False,
        cuda_graphs: bool = False,
    ) -> None:
        super().__init__()
        if autocast is not None and autocast not in AUTOCAST:
            raise UnknownNameError(unknown('autocast', autocast, AUTOCAST))
        for name, value in (('with_cp', with_cp), ('cuda_graphs', cuda_graphs)):
            if not isinstance(value, bool):
                raise InvalidSettingError(f'{name} is True or False; given: {value!r}.')
        if with_cp and cuda_graphs:
            raise InvalidSettingError(
                'with_cp and cuda_graphs exclude each other: what is computed again cannot be '
                'recorded. Leave one out.'
            )
        self.graphs = CudaGraphs() if cuda_graphs else None
        self.autocast = autocast
        self.tuner: Tuner = build(TUNERS, tuner)
        shared = isinstance(trunk, Trunk)
        self.trunk: Trunk = trunk if isinstance(trunk, Trunk) else build(TRUNKS, trunk)
        self._check_precision()
        self.adapters = AdapterBank()
        self.adapters.with_cp = with_cp
        blocks = self.trunk.blocks()
        depth = len(blocks)
        possible = self.trunk.outputs()
        if out_indices is None:
            out_indices = _default_outputs(blocks, possible)
        self.out_indices = resolve_indices(out_indices, depth, 'out_indices')
        if any(index not in possible for index in self.out_indices):
            raise InvalidSettingError(
                f'out_indices {list(self.out_indices)} of {self.trunk.name}: only these blocks end '
                f'a map that the model returns: {list(possible)}.'
            )

        used = blocks[: self.out_indices[-1] + 1]
        self.adapters.compiled = self._compiled(compile, used)
        if shared:
            self._check_shared()
        self.trunk.requires_grad_(False)
        context = InjectionContext(self.trunk, used, self.trunk.has_class_token, self.adapters)
        for parameter in self.tuner.attach(context):
            if not parameter.is_floating_point():
                self.trunk.require_float(f'{type(self.tuner).__name__}, which trains the trunk,')
            parameter.requires_grad_(True)
        if shared:
            self._check_shared()
        for block in blocks[len(used) :]:  # never run, so they must not wait for gradients
            block.module.requires_grad_(False)
        if not shared:  # others may take maps that this one does not
            self.trunk.prune_after(self.out_indices)

        trained = {name for name, p in self.trunk.named_parameters() if p.requires_grad}
        parameters = {name for name, _ in self.trunk.named_parameters()}
        buffers = set(self.trunk.state_dict()) - parameters if trained else set()
        self._kept_trunk = frozenset(trained | buffers)
        # As they are stored here: engines that keep float32 copies may convert them later.
        self._coarse = [
            name
            for name, p in self.trunk.named_parameters()
            if p.requires_grad and p.dtype in AUTOCAST.values()
        ]
        self.register_state_dict_post_hook(_drop_frozen)

    def _check_precision(self) -> None:
        dtype = self.trunk.dtype
        half = dtype in AUTOCAST.values()
        if half and self.autocast is not None and dtype != AUTOCAST[self.autocast]:
            name = str(dtype).removeprefix('torch.')
            raise InvalidSettingError(
                f'autocast={self.autocast!r} with trunk.dtype={name!r}: PyTorch does not mix the '
                'two halves. Give both the same, or leave one out.'
            )

    def _compiled(
        self, setting: bool | Mapping[str, Any], blocks: Sequence[Block]
    ) -> Compiled | None:
        if not isinstance(setting, bool | Mapping):
            raise InvalidSettingError(
                'compile is True, False or a dict of arguments of torch.compile, such as '
                f"dict(mode='max-autotune-no-cudagraphs'); given: {setting!r}."
            )
        if setting is False:
            return None
        if any(block.attention is None for block in blocks):
            raise InvalidSettingError(
                f'compile: {self.trunk.name} runs whole, by its own code, so there are no blocks '
                'to compile one by one. Leave compile out, or take a family that divides its '
                'blocks.'
            )
        if not self.trunk.compiles:
            raise InvalidSettingError(
                f'compile: the blocks of {self.trunk.name} look their tables up by the size of the '
                'map, and would be compiled anew for each. Leave compile out, or take a family '
                'that does not, such as TimmEVA.'
            )
        return Compiled(run_block, {} if setting is True else setting)

    def _check_shared(self) -> None:
        hooked = any(module._forward_hooks for module in self.trunk.modules())
        if hooked or any(p.requires_grad for p in self.trunk.parameters()):
            raise InvalidSettingError(
                f'Trunk {self.trunk.name} cannot be shared: what is inside it is changed, by this '
                f'{type(self.tuner).__name__} or by the backbone that had it first. Share it among '
                'tuners that leave it as it is, such as SIGMA, Mona, Adapter and Frozen.'
            )

    def train(self, mode: bool = True) -> 'AdaptedBackbone':
        """Training or evaluation mode; the trunk follows only where its own mode is ``train``.

        Raises:
            InvalidSettingError: To train, with a tuner that trains parameters of the trunk itself
                and a ``trunk.dtype`` of half precision.
        """
        if mode and self._coarse:
            dtype = self.trunk.get_parameter(self._coarse[0]).dtype
            name = str(dtype).removeprefix('torch.')
            raise InvalidSettingError(
                f'{type(self.tuner).__name__} trains {len(self._coarse)} tensors of the trunk '
                f'itself ({self._coarse[0]}, ...), which trunk.dtype={name!r} stores so coarsely '
                f'that steps below 1/{round(2 / torch.finfo(dtype).eps)} of a value are lost. '
                f'Leave trunk.dtype out; autocast={name!r} computes in that precision all the '
                'same. Tuners with weights of their own, such as SIGMA, keep these in float32.'
            )
        return super().train(mode)

    @property
    def with_cp(self) -> bool:
        """Whether blocks are computed again in the backward pass."""
        return self.adapters.with_cp

    @property
    def out_channels(self) -> list[int]:
        """Channels of each output map."""
        blocks = self.trunk.blocks()
        return [blocks[index].width for index in self.out_indices]

    @property
    def out_strides(self) -> list[int]:
        """Side of a token of each output map, in pixels."""
        blocks = self.trunk.blocks()
        return [blocks[index].stride for index in self.out_indices]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of the output blocks.

        Args:
            images: ``(B, 3, H, W)``, normalised, of any height and width. They are padded with
                zeros at the right and bottom to whole tokens, and the maps cropped back.

        Returns:
            One map ``(B, C, ceil(H / stride), ceil(W / stride))`` per output block, in order, of
            the images' dtype.

        Raises:
            InvalidInputError: Images smaller than one token.
        """
        with torch.set_grad_enabled(self._differentiates(images)):
            if self.graphs is not None:
                return self.graphs(self, self._maps, images)
            return self._maps(images)

    def _maps(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[-2:]
        with self._precision(images):
            maps = self.trunk.maps(self.trunk.pad(images), self.adapters, self.out_indices)
        return tuple(
            grid[..., : -(-height // stride), : -(-width // stride)].contiguous().to(images.dtype)
            for grid, stride in zip(maps, self.out_strides, strict=True)
        )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> 'AdaptedBackbone':
        if self.graphs is not None:
            self.graphs.clear()
        return super()._apply(fn, recurse)

    def _differentiates(self, images: Tensor) -> bool:
        """Whether a gradient is asked for at all; a trunk that is all frozen needs no autograd."""
        if not torch.is_grad_enabled() or images.requires_grad:
            return torch.is_grad_enabled()
        # Adapters first: in most models the first of these already trains.
        parts = (self.adapters, self.trunk)
        return any(p.requires_grad for part in parts for p in part.parameters())

    def _precision(self, images: Tensor) -> AbstractContextManager:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(images.device.type, AUTOCAST[self.autocast])

    def record(self) -> dict[str, Any]:
        """What a checkpoint says of the backbone it belongs to."""
        return {
            'trunk': self.trunk.name,
            'fingerprint': self.trunk.fingerprint,
            'loaded': self.trunk.loaded,
            'tuner': self.tuner.settings(),
            'settings': {**self.trunk.settings(), 'out_indices': list(self.out_indices)},
        }

    def get_extra_state(self) -> Tensor:
        """The record, as the tensor that state dicts carry."""
        return checkpoint_record.encode(self.record())

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: the record is checked before anything loads."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Check strictly, whatever the caller's strictness, then let the frozen trunk be.

        The frozen trunk's tensors are not in the file, so their own values stand in for them:
        neither PyTorch nor MMEngine then reports them as missing.

        Raises:
            CheckpointMismatchError: See :mod:`mmsigma.checkpoint.record`.
        """
        given = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        saved = given.pop(_RECORD, None)
        if saved is None:
            raise CheckpointMismatchError(
                f'The checkpoint has no mmsigma record below {prefix!r} '
                f'({len(given)} other tensors there): it was not saved by an AdaptedBackbone. '
                'Trunk weights go into `trunk=dict(weights=...)`, not into load_from.'
            )
        trunk = {_TRUNK + name: value for name, value in self.trunk.state_dict().items()}
        adapters = {'adapters.' + k: v for k, v in self.adapters.state_dict().items()}
        saved = checkpoint_record.decode(saved)
        whole_trunk = trunk.keys() <= given.keys()
        own = checkpoint_record.decode(
            self.get_extra_state()
        )  # as JSON has it: tuples became lists
        checkpoint_record.compare(saved, own, whole_trunk)
        kept = {_TRUNK + name for name in self._kept_trunk}
        checkpoint_record.check_tensors(given, {**trunk, **adapters}, adapters.keys() | kept)
        for name, value in trunk.items():
            state_dict.setdefault(prefix + name, value)
        # Same weights, or all of them from the file: fit to run, even when it began as random.
        self.trunk.loaded = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _default_outputs(blocks: Sequence[Block], possible: Collection[int]) -> list[int]:
    """The last block of each stage; of a single stage, four blocks evenly spaced."""
    if blocks[-1].stage:
        return list({blocks[index].stage: index for index in sorted(possible)}.values())
    chosen, depth = sorted(possible), len(possible)
    return [chosen[i] for i in sorted({round(depth * k / 4) - 1 for k in (1, 2, 3, 4)} - {-1})]


def _drop_frozen(
    module: AdaptedBackbone, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """State-dict hook: a checkpoint holds what trains, not the frozen trunk."""
    checkpoint_record.drop(state, prefix + _TRUNK, module._kept_trunk)
