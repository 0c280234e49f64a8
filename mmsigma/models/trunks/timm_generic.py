"""Any timm model that returns its intermediate maps, run by its own code.

What a family file knows of its blocks is here found out by sending shapes (no values) through the
model once. Adapters hook onto whole blocks, so ``after_block`` is the only position.
"""

import inspect
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from timm.models.hiera import Hiera
from torch import Tensor, nn

from mmsigma.errors import InvalidInputError, InvalidSettingError
from mmsigma.models.execution.activation_checkpointing import checkpointed
from mmsigma.models.trunks import timm_models
from mmsigma.models.trunks.block import CALLED, Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

if TYPE_CHECKING:
    from mmsigma.models.tuners.injection import AdapterBank


_CONTAINERS = ('blocks', 'stages', 'layers')
# Arguments by which models of timm accept images of any size, where they have them.
_ANY_SIZE = {'dynamic_img_size': True, 'strict_img_size': False}


@dataclass(frozen=True)
class _Found:
    """A block, and what the shapes that came out of it say.

    Attributes:
        path: Its name in the model.
        form: ``NCHW``, ``NHWC`` or ``NLC``.
        width: Channels.
        stride: Side of a token, in pixels.
        prefix: Tokens before the grid.
        level: The intermediate map that it is the last block of, or None.
    """

    path: str
    form: str
    width: int
    stride: int
    prefix: int
    level: int | None


@TRUNKS.register_module()
class TimmGeneric(timm_models.TimmTrunk):
    """A timm model that no family here serves, e.g. ConvNeXt, MViTv2, PVTv2, XCiT or MaxViT.

    It needs ``blocks``, ``stages`` or ``layers`` and ``forward_intermediates``. Blocks run whole:
    adapters sit after a block, and maps are those that timm itself returns, so ``out_indices`` can
    only name blocks that end one of its levels.

    Args:
        model_name, weights, mode, dtype, model_args: See :class:`TimmTrunk`.
        final_norm: ``norm`` of timm's ``forward_intermediates``; most of these models ignore it.

    Raises:
        InvalidSettingError: The model has no blocks or no intermediate maps, or a norm is asked of
            it that it does not have.
    """

    left_out = ()
    provides = frozenset({CALLED})

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = False,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        with torch.device('meta'):
            shapes: Any = timm_models.create(model_name, model_args)
            accepted = inspect.signature(type(shapes).__init__).parameters
            self.arguments = {k: v for k, v in _ANY_SIZE.items() if k in accepted}
            shapes = timm_models.create(model_name, model_args, **self.arguments)
        self.final_norm = final_norm
        self._found = _find(shapes, model_name, model_args, final_norm)
        strides = sorted({block.stride for block in self._found})
        self._stages = [strides.index(block.stride) for block in self._found]
        self._first, self._multiple = strides[0], strides[-1]
        super().__init__(model_name, weights, mode, dtype, model_args)

    def cut(self, model: Any, model_name: str) -> str:
        """Nothing: the model runs as a whole."""
        return ''

    def patch_of(self, model: Any) -> int:
        """The stride of the first level, in pixels."""
        return self._first

    def _require(self, model: Any, model_name: str) -> None:
        """Whatever :func:`_find` found blocks in will do."""

    @property
    def multiple(self) -> int:
        """The stride of the last level, in pixels."""
        return self._multiple

    def outputs(self) -> Collection[int]:
        """The blocks that end one of timm's levels."""
        return [i for i, block in enumerate(self._found) if block.level is not None]

    def prune_after(self, outputs: Collection[int]) -> None:
        """Remove what the chosen maps do not need; see :meth:`Trunk.prune_after`."""
        levels = [self._found[i].level for i in sorted(outputs)]
        self.model.prune_intermediate_layers(levels, prune_norm=not self.final_norm)
        self._found = self._found[: max(outputs) + 1]

    def blocks(self) -> list[Block]:
        """The blocks, undivided; see :meth:`Trunk.blocks`."""
        return [
            Block(self.model.get_submodule(f.path), f.width, None, None, stage, f.stride)
            for f, stage in zip(self._found, self._stages, strict=False)
        ]

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Not to be had: the model runs as a whole, see :meth:`maps`."""
        raise InvalidSettingError(f'{self.name} runs as a whole: it has no embedding of its own.')

    def maps(
        self, images: Tensor, adapters: 'AdapterBank', outputs: Collection[int]
    ) -> list[Tensor]:
        """timm's own intermediate maps, with adapters behind the blocks; see :meth:`Trunk.maps`.

        Raises:
            InvalidInputError: The model refuses images of this size.
        """
        size = (images.shape[-2], images.shape[-1])
        with ExitStack() as hooks:
            for index, found in enumerate(self._found):
                block = self.model.get_submodule(found.path)
                hook = _adapt(adapters, index, found, size)
                if adapters.with_cp:
                    hooks.enter_context(_checkpointing(block, hook, adapters, index))
                elif str(index) in adapters.at:
                    hooks.callback(block.register_forward_hook(hook).remove)
            try:
                return self.model.forward_intermediates(
                    images.to(self.dtype),
                    indices=[self._found[i].level for i in sorted(outputs)],
                    norm=self.final_norm,
                    intermediates_only=True,
                )
            except AssertionError as error:
                raise InvalidInputError(
                    f'{self.name} cannot run images of {size[0]} x {size[1]} pixels: {error}. '
                    f'Build it for that size: model_args=dict(img_size={size}).'
                ) from error


@contextmanager
def _checkpointing(
    block: nn.Module, hook: Any, adapters: 'AdapterBank', index: int
) -> Iterator[None]:
    """Has a block and the adapter behind it computed again in the backward pass."""
    forward, own = block.forward, 'forward' in vars(block)

    def adapted(*args: Any, **kwargs: Any) -> Any:
        return hook(block, args, forward(*args, **kwargs))

    def run(*args: Any, **kwargs: Any) -> Any:
        if adapters.uses_checkpointing(index, block, args[0]):
            return checkpointed(adapted, block, *args, **kwargs)
        return adapted(*args, **kwargs)

    block.forward = run
    try:
        yield
    finally:
        if own:
            block.forward = forward
        else:
            del block.forward


def _adapt(adapters: 'AdapterBank', index: int, found: _Found, size: tuple[int, int]) -> Any:
    height, width = (-(-side // found.stride) for side in size)
    layout = TokenLayout(height, width, found.prefix)

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        tokens = first.permute(0, 2, 3, 1) if found.form == 'NCHW' else first
        tokens = tokens.reshape(len(first), -1, found.width)
        update = adapters.update(index, 'after_block', tokens, layout)
        if update is not None:
            if found.form == 'NCHW':
                update = update.transpose(1, 2)
            # Added to upstream's tensor, so that its memory format stays: convolutions round by it.
            first = first + update.reshape(first.shape).to(first.dtype)
        return (first, *output[1:]) if isinstance(output, tuple) else first

    return hook


def _blocks(model: nn.Module) -> Iterator[str]:
    """Names of the innermost modules in blocks, stages and layers."""

    def walk(module: nn.Module, path: str) -> Iterator[str]:
        inner = next((n for n in _CONTAINERS if len(list(_children(module, n)))), None)
        if inner is not None:
            for name, child in _children(module, inner):
                yield from walk(child, f'{path}.{inner}.{name}')
        elif isinstance(module, nn.Sequential | nn.ModuleList):
            for name, child in module.named_children():
                yield from walk(child, f'{path}.{name}')
        else:
            yield path

    yield from (path.removeprefix('.') for path in walk(model, '') if path)


def _children(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    inner = getattr(module, name, None)
    return inner.named_children() if isinstance(inner, nn.Sequential | nn.ModuleList) else iter(())


def _find(
    model: Any, model_name: str, model_args: dict[str, Any] | None, norm: bool
) -> list[_Found]:
    """Send shapes through a model on the meta device, and read what comes out of its blocks."""
    if isinstance(model, Hiera):  # its tokens have the order of mask units, not of the image
        raise InvalidSettingError(
            f'TimmGeneric cannot run {model_name!r}: a Hiera keeps its tokens in an order of its '
            "own. Use trunk=dict(type='TimmHiera', ...)."
        )
    paths = list(_blocks(model))
    if not paths or not hasattr(model, 'forward_intermediates'):
        raise InvalidSettingError(
            f'TimmGeneric needs a timm model with {", ".join(_CONTAINERS[:-1])} or '
            f'{_CONTAINERS[-1]} and forward_intermediates; {model_name!r}, a '
            f'{type(model).__name__}, lacks ' + ('the former.' if not paths else 'the latter.')
        )
    given = (model_args or {}).get('img_size', model.pretrained_cfg['input_size'][1:])
    side = given if isinstance(given, int) else given[0]
    seen: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            seen[path] = tuple((output[0] if isinstance(output, tuple) else output).shape)

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for path in paths:
            handle = model.get_submodule(path).register_forward_hook(note(path))
            hooks.callback(handle.remove)
        try:
            maps = model.eval().forward_intermediates(
                torch.empty(1, 3, side, side, device='meta'), norm=norm, intermediates_only=True
            )
        except Exception as error:  # whatever a stranger's code does on the meta device
            raise InvalidSettingError(
                f'TimmGeneric cannot run {model_name!r} with final_norm={norm} at {side} x {side} '
                f'pixels: {error}.'
            ) from error
    levels = [tuple(m.shape[1:]) for m in maps]
    prefix = getattr(model, 'num_prefix_tokens', 0)
    found = [_read(path, seen[path], levels, prefix, side) for path in paths if path in seen]
    blocks = [block for block in found if block is not None]
    if not blocks:
        raise InvalidSettingError(
            f'TimmGeneric finds no block of {model_name!r} whose output is a map: the blocks give '
            f'{sorted(set(seen.values()))}, the maps are {levels}.'
        )
    return _with_levels(blocks, levels, side)


def _read(
    path: str, shape: tuple[int, ...], levels: list[tuple[int, ...]], prefix: int, side: int
) -> _Found | None:
    """What one block's output is, or None where it is no map of the size of any level."""
    for channels, height, width in levels:
        area = height * width
        for form, expected, tokens in (
            ('NCHW', (1, channels, height, width), 0),
            ('NHWC', (1, height, width, channels), 0),
            ('NLC', (1, prefix + area, channels), prefix),
            ('NLC', (1, area, channels), 0),  # where the class token comes later
        ):
            if shape == expected:
                return _Found(path, form, channels, side // height, tokens, None)
    return None


def _with_levels(blocks: list[_Found], levels: list[tuple[int, ...]], side: int) -> list[_Found]:
    """The blocks, with the level that each is the last block of."""
    if len(blocks) == len(levels):
        return [replace(block, level=index) for index, block in enumerate(blocks)]
    of_shape = {(levels[i][0], side // levels[i][1]): i for i in reversed(range(len(levels)))}
    last = {(block.width, block.stride): index for index, block in enumerate(blocks)}
    ends = {index: of_shape[shape] for shape, index in last.items() if shape in of_shape}
    return [replace(block, level=ends.get(index)) for index, block in enumerate(blocks)]
