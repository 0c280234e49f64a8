"""The contract of a family of frozen vision foundation models."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.errors import InvalidInputError, InvalidSettingError, UnknownNameError, unknown
from mmsigma.models.trunks import int8
from mmsigma.models.trunks.block import CALLED, DIVIDED, Block
from mmsigma.models.trunks.tokens import TokenState

if TYPE_CHECKING:
    from mmsigma.models.tuners.injection import AdapterBank


DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
STORED = (*DTYPES, int8.NAME)
MODES = ('eval', 'train')
# Arguments that change no map, or that the name or the fingerprint says.
_FREE = ('model_name', 'weights', 'mode', 'dtype', 'window', 'global_blocks')


def fingerprint(model: nn.Module | Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits that identify weights, whatever the dtype they were stored in.

    SHA-256 over names, shapes and values of a model's state dict; about 0.1 s for 100 MB. A model
    on the meta device has no values, so its fingerprint identifies nothing: ``meta``.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    if any(value.is_meta for value in state.values()):
        return 'meta'
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f'{name}{tuple(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


class Trunk(nn.Module, ABC):
    """A pretrained backbone whose blocks are two residual steps; knows no adapter.

    A family builds its upstream model, loads the weights at once (a trunk never exists half-loaded)
    and hands the model to this constructor.

    Args:
        model: The upstream model, float32, weights loaded.
        name: Family and architecture, e.g. ``timm/vit_small_patch14_dinov2``.
        loaded: Whether the weights are pretrained ones, not random.
        mode: ``eval`` (default) keeps the trunk in evaluation mode while its adapters train;
            ``train`` lets it follow, with drop path and dropout where upstream has them.
        dtype: Storage and computation dtype: ``float32``, ``bfloat16`` or ``float16``; or ``int8``,
            the storage of Linear layers alone: see :mod:`mmsigma.models.trunks.int8`.

    Attributes:
        patch: Side of a token at the embedding, in pixels.
        multiple: Images are padded to whole multiples of this many pixels; ``patch`` by default.
        has_class_token: Whether the first token is a class token.
        fingerprint: See :func:`fingerprint`; taken in float32 before ``dtype`` applies.
        provides: What all models of the family provide of what tuners may require: names of
            :mod:`mmsigma.models.trunks.block`, and layers.
    """

    patch: int
    has_class_token: bool = False
    builds_without_values = True  # whether upstream builds on the meta device
    compiles = True  # whether graphs of blocks hold for every size of image
    provides: frozenset[str] = frozenset({DIVIDED, CALLED})
    model: Any  # upstream's own class; each family knows which
    upstream_arguments: Mapping[str, Any] | None = None

    def __init__(self, model: nn.Module, name: str, loaded: bool, mode: str, dtype: str) -> None:
        super().__init__()
        if mode not in MODES:
            raise UnknownNameError(unknown('trunk mode', mode, MODES))
        if dtype not in STORED:
            raise UnknownNameError(unknown('trunk dtype', dtype, STORED))
        self.name = name
        self.built_with: dict[str, Any] = {}  # by whoever builds it from a config
        self.loaded = loaded
        self.mode = mode
        self.fingerprint = fingerprint(model)
        if dtype == int8.NAME:
            int8.quantise(model)
        self.model = model.to(DTYPES.get(dtype, torch.float32))
        if self.dtype != torch.float32:
            for module in model.modules():
                # timm's own switch. Under autocast norms would widen what they read, and the next
                # layer narrow it again, for the same result.
                if hasattr(module, '_fast_norm'):
                    module._fast_norm = cast(Any, True)
        # The very parameters, not copies: only what the family leaves out from here on is kept
        # alive by this, so that weights() is whole.
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        self._upstream = {name: tensors[name] for name in model.state_dict() if name in tensors}
        self.train(False)

    @classmethod
    def provided(cls, config: Mapping[str, Any]) -> frozenset[str]:
        """What the trunk of a config provides, told without building it.

        Args:
            config: ``dict(type=..., ...)``, the arguments of the family.
        """
        return cls.provides

    def settings(self) -> dict[str, Any]:
        """What changes the maps besides the weights, by name, as plain JSON values.

        All arguments of the class count, ``model_args`` one by one, but those in :data:`_FREE`:
        where weights come from, and what training or precision alone see.
        """
        given = {**self.built_with}
        inside = given.pop('model_args', None) or {}
        if self.upstream_arguments is not None:  # what a family made of both
            given.pop('arch', None)
            inside = self.upstream_arguments
        given |= {f'model_args.{name}': value for name, value in inside.items()}
        found = {
            name: getattr(self, name, None) if value is None else value
            for name, value in given.items()
            if name not in _FREE and 'drop' not in name
        }
        return json.loads(json.dumps(found, default=str))

    def train(self, mode: bool = True) -> 'Trunk':
        """Follow the caller only where the trunk's mode is ``train``."""
        return super().train(mode and self.mode == 'train')

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the trunk computes in."""
        return next(p.dtype for p in self.model.parameters() if p.is_floating_point())

    def weights(self) -> dict[str, Tensor]:
        """Upstream's whole state dict as it now is, which ``weights`` of this family loads.

        Tensors of a half-precision trunk come as float32. What the trunk leaves out of the model,
        such as a final norm that no map passes, is as it was loaded. Parameters that a tuner put
        inside are no part of it.

        Raises:
            InvalidSettingError: Of a trunk in int8, whose layers upstream could not load.
        """
        self.require_float("Giving back upstream's weights")
        own = self.model.state_dict()
        found = {name: own.get(name, value).detach() for name, value in self._upstream.items()}
        half = (torch.bfloat16, torch.float16)
        return {name: v.float() if v.dtype in half else v for name, v in found.items()}

    def require_float(self, what: str) -> None:
        """Refuse what needs weights in floating point of a trunk that stores integers.

        Args:
            what: What needs them, the subject of the message.

        Raises:
            InvalidSettingError: The trunk is in int8.
        """
        name = next((n for n, m in self.named_modules() if isinstance(m, int8.Int8Linear)), None)
        if name is not None:
            raise InvalidSettingError(
                f'{what} needs weights in floating point, but trunk.dtype={int8.NAME!r} stores '
                f'those of Linear layers ({name}, ...) as integers. Leave trunk.dtype out.'
            )

    def calls(self, path: str) -> bool:
        """Whether upstream calls the layer of this name, or reads its weight and does the rest.

        Attention whose query and value have biases of their own (BEiT, EVA-02, Swin V2, in timm and
        in mmpretrain) does the latter with ``qkv``; what sits on that layer would have no effect.
        """
        parent, _, name = path.rpartition('.')
        return name != 'qkv' or getattr(self.get_submodule(parent), 'q_bias', None) is None

    @property
    def multiple(self) -> int:
        """Images are padded to whole multiples of this many pixels."""
        return self.patch

    @abstractmethod
    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Tokens ``(B, N, C)`` of images ``(B, 3, H, W)``, H and W as :meth:`pad` leaves them."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """The blocks in the order in which they run."""

    def outputs(self) -> Collection[int]:
        """Indices of the blocks whose output can become a map: all, unless a family says else."""
        return range(len(self.blocks()))

    def prune_after(self, outputs: Collection[int]) -> None:
        """Drop what no map of these blocks needs, where upstream would run or train it in vain.

        Called once, after the fingerprint is taken. Blocks behind the last output need not be
        dropped: they neither run nor train.
        """

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """What upstream has between block ``index`` and its map: nothing, or the final norm."""
        return tokens

    def pad(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` with zeros at the right and bottom, to whole tokens.

        Raises:
            InvalidInputError: An image smaller than one token.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.patch:
            raise InvalidInputError(
                f'An image of {height} x {width} pixels is smaller than one token of {self.name}, '
                f'{self.patch} x {self.patch} pixels. Resize or pad it, or check the order of '
                'axes: images are (batch, 3, height, width).'
            )
        down, right = -height % self.multiple, -width % self.multiple
        return F.pad(images, (0, right, 0, down)) if down or right else images

    def maps(
        self, images: Tensor, adapters: 'AdapterBank', outputs: Collection[int]
    ) -> list[Tensor]:
        """Run the blocks with their adapters; the maps of the blocks in ``outputs``.

        Args:
            images: ``(B, 3, H, W)``, as :meth:`pad` leaves them.
            adapters: The adapters, by block.
            outputs: Indices of blocks.

        Returns:
            Maps ``(B, C, H / stride, W / stride)``, in the order of the blocks.
        """
        tokens, state = self.embed(images)
        found = []
        for index, block in enumerate(self.blocks()[: max(outputs) + 1]):
            tokens, state = adapters.run(index, block, tokens, state)
            if index in outputs:
                found.append(state.layout.to_map(self.norm(tokens, index)))
        return found
