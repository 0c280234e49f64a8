"""SIGMA: Scale-Integrated Global Modulation Adapter (Xiong et al., arXiv 2605.27893).

Only the paper's title, abstract and the beginning of its introduction were at hand: two modules,
*scale-adaptive fusion* for the structural gap and *semantic modulation* of the fused features for
the distributional gap, with 1.72 % trainable parameters. The equations below are this project's
reconstruction, not the paper's text::

    X ── LN ── Down ── Z ── SAF ── F ── SM ── M ── GELU ── Dropout ── Up ── * s ──> update of X
    (B,N,C)          (B,N,r)     (B,N,r)   (B,N,r)                        (B,N,C)

    SAF   a = softmax_k Gate(GAP(Z));  F = Z + sum_k a_k * DW_k(Z);  F = F + Conv1x1(F)
    SM    (gamma, beta) = MLP([GAP(F), Z_class]);  M = (1 + gamma) * F + beta
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.ops import fused
from mmsigma.models.ops.depthwise import depthwise_conv, mixed, one_kernel
from mmsigma.models.trunks.block import DIVIDED, resolve_indices
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import (
    Choice,
    Count,
    Counts,
    Dropout,
    Form,
    Kind,
    Tuner,
    is_factor,
    is_list,
)
from mmsigma.models.tuners.injection import InjectionContext, resolve_positions
from mmsigma.models.tuners.layers import zero
from mmsigma.registry import TUNERS

GATES = ('channel', 'spatial', 'static', 'mean')
FUSIONS = ('adaptive', 'none')
MODULATIONS = ('global', 'none')
PREFIX_TOKENS = ('share', 'skip')


_SCALE = Kind(
    "is a finite number other than 0, or 'learned'", lambda v: v == 'learned' or is_factor(v)
)
_LISTED = Kind('is a list', is_list, ' The default is [3, 5, 7].')
_PLACES = Kind(
    'is a list', lambda v: isinstance(v, str) or is_list(v), " The default is 'after_block'."
)
_BLOCKS = Kind('is a list', lambda v: v is None or is_list(v), ' The default is None.')


class ScaleAdaptiveFusion(nn.Module):
    """Weighs depthwise convolutions of several kernel sizes and mixes channels.

    ``fast`` uses that convolution is linear in its kernel: the K kernels, weighted by the gate, are
    summed into one kernel per image, and one depthwise convolution runs. A spatial gate has another
    kernel at every position, so it always takes the plain form of K convolutions.

    Args:
        width: r, channels.
        kernel_sizes: Odd kernel sizes k, in tokens.
        gate: ``channel`` (softmax over k per image and channel), ``spatial`` (per image and
            position), ``static`` (learned, the same for all images) or ``mean`` (1/K).
        hidden: Hidden width of the channel gate's MLP.
        form: ``fast`` or ``plain``.
    """

    def __init__(
        self, width: int, kernel_sizes: Sequence[int], gate: str, hidden: int, form: str
    ) -> None:
        super().__init__()
        self.gate_kind = gate
        self.sizes = list(kernel_sizes)
        self.fast = form == 'fast' and gate != 'spatial'
        self.scales = nn.ModuleList(
            nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in kernel_sizes
        )
        count = len(kernel_sizes)
        if gate == 'channel':
            self.gate = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, count * width)
            )
        elif gate == 'spatial':
            self.gate = nn.Sequential(nn.Linear(width, count))
        if gate in ('channel', 'spatial'):  # every scale counts the same at the start
            zero(self.gate[-1])
        elif gate == 'static':
            self.logits = nn.Parameter(torch.zeros(count, width))
        self.mix = nn.Linear(width, width)

    def weights(self, z: Tensor) -> Tensor:
        """Weight of each scale, summing to one over the scales.

        Returns:
            ``(B, K, r)`` for ``channel``, ``(K, r)`` for ``static`` and ``mean``,
            ``(B, K, N)`` for ``spatial``; ``z`` is ``(B, N, r)``.
        """
        if self.gate_kind == 'channel':
            logits = self.gate(z.mean(dim=1))
            return logits.unflatten(1, (len(self.scales), -1)).softmax(dim=1)
        if self.gate_kind == 'spatial':
            return self.gate(z).softmax(dim=-1).transpose(1, 2)
        if self.gate_kind == 'static':
            return self.logits.softmax(dim=0)
        return z.new_full((len(self.scales), z.shape[-1]), 1 / len(self.scales))

    def merge(self) -> None:
        """Sum the kernels that a static or mean gate weighs: one is left, the largest."""
        kernel, bias = one_kernel(self._convs(), self.weights(self.mix.weight))
        largest = kernel.shape[-1]
        conv: Any = next(c for c in self.scales if c.kernel_size == (largest, largest))
        kernel[:, largest // 2, largest // 2] -= 1  # what is left adds the identity again
        conv.weight.copy_(kernel.unsqueeze(1))
        conv.bias.copy_(bias)
        self.scales = nn.ModuleList([conv])
        self.sizes = [largest]
        if self.gate_kind == 'static':
            del self.logits
        self.gate_kind = 'mean'

    def fuse(self, z: Tensor, height: int, width: int) -> Tensor:
        """``Z + sum_k a_k * DW_k(Z)``, channel-major: ``(B, N, r) -> (B, r, N)``."""
        weights = self.weights(z)
        image = z.transpose(1, 2).unflatten(2, (height, width))
        if self.fast:
            return depthwise_conv(image, *one_kernel(self._convs(), weights)).flatten(2)
        out = image.flatten(2)
        # (B|1, K, r|1, N|1): one weight per image, scale and channel, or per position.
        expanded = weights.unsqueeze(2) if self.gate_kind == 'spatial' else weights.unsqueeze(-1)
        expanded = expanded if expanded.dim() == 4 else expanded.unsqueeze(0)
        for k, conv in enumerate(self.scales):
            out = out + expanded[:, k] * conv(image).flatten(2)
        return out

    def _convs(self) -> list[nn.Conv2d]:
        return [cast(nn.Conv2d, conv) for conv in self.scales]

    def forward(self, z: Tensor, height: int, width: int) -> Tensor:
        """Fused features of a grid: ``(B, height * width, r) -> (B, height * width, r)``."""
        fused = self.fuse(z, height, width).transpose(1, 2)
        if self.fast:
            return mixed(fused, self.mix.weight, self.mix.bias)
        return fused + self.mix(fused)


class SemanticModulation(nn.Module):
    """Scales and shifts every channel by what the whole image says.

    Args:
        width: r, channels.
        hidden: Hidden width of the MLP.
        class_token: Whether the class token's bottleneck features join the descriptor.
    """

    def __init__(self, width: int, hidden: int, class_token: bool) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width * (2 if class_token else 1), hidden),
            nn.GELU(),
            nn.Linear(hidden, 2 * width),
        )
        # gamma = beta = 0: the modulation starts as the identity.
        zero(self.mlp[-1])

    def forward(self, fused: Tensor, class_token: Tensor | None) -> tuple[Tensor, Tensor]:
        """``(1 + gamma, beta)``, each ``(B, 1, r)``.

        Args:
            fused: ``(B, N, r)``, the fused grid.
            class_token: ``(B, r)``, or None.
        """
        descriptor = fused.mean(dim=1)
        if class_token is not None:
            descriptor = torch.cat([descriptor, class_token], dim=1)
        gamma, beta = self.mlp(descriptor).unsqueeze(1).chunk(2, dim=-1)
        return 1 + gamma, beta


class SIGMAAdapter(nn.Module):
    """One SIGMA adapter: the update of the tokens ``(B, N, C)`` where it sits.

    Args:
        width: C, channels of the trunk.
        bottleneck: r, channels inside.
        class_token: Whether the trunk has a class token.
        settings: The tuner's settings; see :class:`SIGMA`.
    """

    def __init__(self, width: int, bottleneck: int, class_token: bool, settings: 'SIGMA') -> None:
        super().__init__()
        s = settings
        self.skip_prefix = s.prefix_tokens == 'skip'
        self.read_class_token = class_token and not self.skip_prefix
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, bottleneck)
        self.fusion = (
            ScaleAdaptiveFusion(bottleneck, s.kernel_sizes, s.gate, s.gate_hidden, s.form)
            if s.fusion == 'adaptive'
            else None
        )
        self.modulation = (
            SemanticModulation(bottleneck, s.modulation_hidden, self.read_class_token)
            if s.modulation == 'global'
            else None
        )
        self.dropout = nn.Dropout(s.dropout)
        self.up = nn.Linear(bottleneck, width)
        zero(self.up)
        self.scale: nn.Parameter | float = (
            nn.Parameter(torch.ones(width)) if s.scale == 'learned' else float(s.scale)
        )

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``; zero at initialisation."""
        prefix = layout.prefix
        if self.skip_prefix and prefix:
            grid_only = TokenLayout(layout.height, layout.width)
            update = self._update(layout.split(tokens)[1], grid_only)
            return F.pad(update, (0, 0, prefix, 0))
        return self._update(tokens, layout)

    def _update(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        z = self.down(fused.normed(self.norm, tokens))
        if fused.fuses(self.fusion, self.modulation, z):
            activated = fused.activated(self.fusion, self.modulation, z, layout)
        else:
            activated = F.gelu(self._modulated(z, layout))
        activated = self.dropout(activated)
        if isinstance(self.scale, float):
            update = self.up(activated)
            return update if self.scale == 1 else update * self.scale
        # Scaling the small weight instead of the wide update gives the same result.
        return F.linear(activated, self.up.weight * self.scale[:, None], self.up.bias * self.scale)

    def _modulated(self, z: Tensor, layout: TokenLayout) -> Tensor:
        head, grid = layout.split(z)
        if self.fusion is not None:
            grid = self.fusion(grid, layout.height, layout.width)
        if self.modulation is not None:
            gamma, beta = self.modulation(grid, head[:, 0] if self.read_class_token else None)
            grid = torch.addcmul(beta, grid, gamma)
            head = torch.addcmul(beta, head, gamma) if layout.prefix else head
        return torch.cat([head, grid], dim=1) if layout.prefix else grid


@TUNERS.register_module()
@dataclass
class SIGMA(Tuner):
    """SIGMA adapters in a frozen trunk; the defaults add 1.72 % to SigLIP2-B/16.

    Args:
        bottleneck: r, channels inside the adapter: a number, or one per stage.
        kernel_sizes: Odd kernel sizes of scale-adaptive fusion, in tokens.
        fusion: ``adaptive``, or ``none`` to leave scale-adaptive fusion out.
        gate: How scales are weighed: ``channel``, ``spatial``, ``static`` or ``mean``.
        gate_hidden: Hidden width of the channel gate.
        modulation: ``global``, or ``none`` to leave semantic modulation out.
        modulation_hidden: Hidden width of the modulation MLP.
        prefix_tokens: ``share``: class token and registers take the modulation and the projections,
            but not the fusion. ``skip``: they are neither read nor changed.
        scale: s, a constant factor of the update, or ``learned`` (one per channel, from 1).
        dropout: Probability of dropping an activated bottleneck feature, in training.
        position: One or several of :data:`mmsigma.models.tuners.injection.POSITIONS`; ``both``
            stands for after attention and after the MLP.
        blocks: Indices of the blocks to adapt (negative from the end), or None for all.
        form: ``fast`` (one convolution) or ``plain`` (one per kernel size); the same function.

    Raises:
        UnknownNameError: An option that does not exist.
        InvalidSettingError: An even kernel size, a width below one, a dropout outside [0, 1).
    """

    bottleneck: Counts = 64
    kernel_sizes: Annotated[Sequence[int], _LISTED] = (3, 5, 7)
    fusion: Annotated[str, Choice(FUSIONS)] = 'adaptive'
    gate: Annotated[str, Choice(GATES)] = 'channel'
    gate_hidden: Count = 16
    modulation: Annotated[str, Choice(MODULATIONS)] = 'global'
    modulation_hidden: Count = 48
    prefix_tokens: Annotated[str, Choice(PREFIX_TOKENS)] = 'share'
    scale: Annotated[float | str, _SCALE] = 1.0
    dropout: Dropout = 0.0
    position: Annotated[str | Sequence[str], _PLACES] = 'after_block'
    blocks: Annotated[Sequence[int] | None, _BLOCKS] = None
    form: Form = 'fast'

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.kernel_sizes = tuple(self.kernel_sizes)
        if not sizes or any(type(k) is not int or k < 1 or k % 2 == 0 for k in sizes):
            raise InvalidSettingError(
                f'SIGMA kernel_sizes must be odd and positive, so that a kernel has a centre; '
                f'given: {list(sizes)}. The default is [3, 5, 7].'
            )
        self.position = resolve_positions(self.position)
        self.blocks = None if self.blocks is None else tuple(self.blocks)

    @classmethod
    def required(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Divided blocks, unless adapters sit behind them alone; see :meth:`Tuner.required`."""
        places = resolve_positions(settings.get('position', cls.position))
        return frozenset() if places == ('after_block',) else frozenset({DIVIDED})

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter at every chosen position of every chosen block."""
        depth = len(context.blocks)
        chosen = range(depth) if self.blocks is None else self.blocks
        inner = self.per_stage('bottleneck', context.blocks)
        for index in resolve_indices(chosen, depth, 'SIGMA blocks'):
            block = context.blocks[index]
            for position in self.position:
                adapter = SIGMAAdapter(block.width, inner[index], context.class_token, self)
                context.put(index, position, adapter)
        return ()

    def merge(self, context: InjectionContext) -> dict[str, Any]:
        """Sum the kernels that a fixed gate weighs, and take the scale into Up.

        Raises:
            InvalidSettingError: The gate depends on the image, or nothing is left to merge.
        """
        fused = self.fusion == 'adaptive'
        if fused and self.gate in ('channel', 'spatial'):
            raise InvalidSettingError(
                f'SIGMA does not merge: gate={self.gate!r} weighs the kernels anew for each image. '
                "A gate that is 'static' or 'mean' merges."
            )
        left = {**self.settings(), 'scale': 1.0, 'form': self.form, 'dropout': self.dropout}
        if fused:
            left |= {'gate': 'mean', 'kernel_sizes': [max(self.kernel_sizes)]}
        if SIGMA(**{k: v for k, v in left.items() if k != 'type'}) == self:
            raise InvalidSettingError('SIGMA does not merge: no kernels to sum, no scale to merge.')
        for places in context.adapters.at.values():
            for module in cast(nn.ModuleDict, places).values():
                adapter = cast(SIGMAAdapter, module)
                if adapter.fusion is not None:
                    adapter.fusion.merge()
                scale: Any = adapter.scale
                adapter.up.weight.mul_(scale[:, None] if isinstance(scale, Tensor) else scale)
                adapter.up.bias.mul_(scale)
                del adapter.scale
        return left
