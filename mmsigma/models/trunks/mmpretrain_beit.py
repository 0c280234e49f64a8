"""mmpretrain's BEiT: plain transformers with relative position biases, and the EVA models."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks import mmpretrain_models
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.mmpretrain_models import Arch
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

Grid = tuple[int, int]
_UPSTREAM = 'BEiTViT'
_TABLE = 'relative_position_bias_table'
_EXTRA = 3  # last entries of a table: class to token, token to class, class to class
# What upstream has behind its blocks, and for its pretraining task.
_HEAD = ('ln2.', 'mask_token')


@TRUNKS.register_module()
class MMPretrainBEiT(Trunk):
    """An ``mmpretrain.models.BEiTViT`` (Bao et al., arXiv 2106.08254; v2: 2208.06366) or an EVA.

    On a grid other than the native one, the tables of relative positions are resampled as BEiT's
    release does when it loads weights of another image size; gradients reach the tables there too.

    Args:
        arch: A name of mmpretrain's ``arch_zoo`` (``'base'``, ``'large'``, ``'eva-g'``), a dict
            with ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``, or the
            path of an mmpretrain config (``.py``) whose ``model.backbone`` is built.
        weights: A local mmpretrain checkpoint (with or without ``backbone.`` before its keys), or
            ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm; None: as upstream or the config
            has it (the released models norm after pooling instead).
        model_args: Further arguments of the model, e.g. ``dict(img_size=384)``.

    Raises:
        InvalidSettingError: mmpretrain refuses ``arch`` or ``model_args``, the config builds
            another backbone, or there are relative positions but no class token.
        WeightsError: The weights cannot be read or loaded.
    """

    builds_without_values = False

    def __init__(
        self,
        arch: Arch,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool | None = None,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        settings = mmpretrain_models.settings(_UPSTREAM, arch, model_args)
        state = mmpretrain_models.read(_UPSTREAM, weights)
        normed, built = mmpretrain_models.final_norm(settings, final_norm, False, state)
        model = mmpretrain_models.create(_UPSTREAM, settings, out_type='featmap', final_norm=built)
        relative = model.use_rel_pos_bias or model.rel_pos_bias is not None
        if relative and model.cls_token is None:
            raise InvalidSettingError(
                "mmpretrain's relative position biases count a class token, so BEiTViT cannot run "
                'with them and with_cls_token=False. Leave with_cls_token out, or set '
                'use_rel_pos_bias=False.'
            )
        converts = [partial(_fit_tables, model)]
        if model.pos_embed is not None:
            converts.append(model._prepare_pos_embed)
        mmpretrain_models.load(model, state, weights, _HEAD, *converts)
        name = mmpretrain_models.label(model, settings)
        super().__init__(model, name, state is not None, mode, dtype)
        self.final_norm = normed
        if built and not normed:
            del model.ln1
        self.patch = model.patch_embed.projection.stride[0]
        self.native: Grid = tuple(model.patch_resolution)
        self.has_class_token = model.cls_token is not None

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patches, class token and position embedding; biases are shared with the blocks."""
        model = self.model
        tokens, (height, width) = model.patch_embed(images.to(self.dtype))
        if model.cls_token is not None:
            tokens = torch.cat((model.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        if model.pos_embed is not None:
            tokens = tokens + model.resize_pos_embed(
                model.pos_embed,
                model.patch_resolution,
                (height, width),
                mode=model.interpolate_mode,
                num_extra_tokens=model.num_extra_tokens,
            )
        layout = TokenLayout(height, width, model.num_extra_tokens, self.has_class_token)
        return model.drop_after_pos(tokens), TokenState(layout, self._biases((height, width)))

    def _biases(self, grid: Grid) -> '_Biases':
        model = self.model
        native = grid == self.native
        if model.rel_pos_bias is not None:
            if native:
                return _Biases(common=model.rel_pos_bias())
            table = _resample(model.rel_pos_bias.relative_position_bias_table, self.native, grid)
            return _Biases(common=_bias(table, _index(grid, table.device)))
        if native or not model.use_rel_pos_bias:
            return _Biases()
        tables = torch.stack([block.attn.relative_position_bias_table for block in model.layers])
        index = _index(grid, tables.device)
        return _Biases(tables=_resample(tables, self.native, grid), index=index)

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        width = self.model.embed_dims
        return [
            Block(
                b,
                width,
                partial(_attention, b, i),
                partial(_mlp, b),
                stride=self.patch,
                norms=(b.ln1, b.ln2),
            )
            for i, b in enumerate(self.model.layers)
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.ln1(tokens) if self.final_norm else tokens


@dataclass(frozen=True)
class _Biases:
    """Relative position biases of one grid, where upstream's blocks do not have them.

    Attributes:
        common: The bias of all blocks ``(heads, N, N)``, in models whose blocks share one.
        tables: Each block's table for this grid ``(blocks, entries, heads)``, unless it is native.
        index: Of pairs of tokens into a table, ``(N, N)``. It is found here and not in a block,
            whose compiled graph it would tie to one grid.
    """

    common: Tensor | None = None
    tables: Tensor | None = None
    index: Tensor | None = None


def _fit_tables(model: Any, state: dict[str, Tensor], prefix: str) -> None:
    """Tables of the weights in the form that the model has: one for each block, of its grid."""
    shared = f'rel_pos_bias.{_TABLE}'
    if model.use_rel_pos_bias and shared in state:  # as pretraining leaves them
        table = state.pop(shared)
        for index in range(len(model.layers)):
            state[f'layers.{index}.attn.{_TABLE}'] = table.clone()
    for key, own in model.state_dict().items():
        if not key.endswith(_TABLE) or key not in state or len(state[key]) == len(own):
            continue
        side = round((len(state[key]) - _EXTRA) ** 0.5)  # upstream, too, takes it for a square
        old = ((side + 1) // 2,) * 2
        state[key] = _resample(state[key], old, tuple(model.patch_resolution))


def _resample(tables: Tensor, old: Grid, new: Grid) -> Tensor:
    """Tables ``(..., entries, heads)`` of one grid for another; those of class tokens stay."""
    head, extra = tables[..., :-_EXTRA, :], tables[..., -_EXTRA:, :]
    return torch.cat((mmpretrain_models.resize_table(head, old, new), extra), dim=-2)


def _bias(table: Tensor, index: Tensor) -> Tensor:
    """The bias ``(heads, N, N)`` of a table ``(entries, heads)`` and an index ``(N, N)``."""
    bias = table[index]
    return bias.permute(2, 0, 1).contiguous()


@lru_cache(maxsize=4)
def _index(grid: Grid, device: torch.device) -> Tensor:
    """Upstream's index of pairs of tokens into a table, ``(N, N)``."""
    from mmpretrain.models.backbones.beit import RelativePositionBias

    with torch.inference_mode(False):  # it is kept, so it must serve training too
        return RelativePositionBias(grid, num_heads=1).relative_position_index.to(device)


def _attention(
    layer: Any, index: int, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    y, biases = layer.ln1(x), state.shared
    if biases.tables is None:
        branch = layer.attn(y, rel_pos_bias=biases.common)
    else:
        branch = _biased(layer.attn, y, _bias(biases.tables[index], biases.index))
    if layer.gamma_1 is not None:
        branch = layer.gamma_1 * branch
    return x, layer.drop_path(branch), state


def _biased(attention: Any, x: Tensor, bias: Tensor) -> Tensor:
    """Upstream's attention with another bias than the one its own table gives.

    Args:
        attention: mmpretrain's ``BEiTAttention``.
        x: Tokens ``(B, N, C)``.
        bias: ``(heads, N, N)``.
    """
    if attention.bias == 'qv_bias':
        key_bias = torch.zeros_like(attention.v_bias, requires_grad=False)
        together = torch.cat((attention.q_bias, key_bias, attention.v_bias))
        qkv = F.linear(x, attention.qkv.weight, together)
    else:
        qkv = attention.qkv(x)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = (q * attention.scale) @ k.transpose(-2, -1) + bias.unsqueeze(0)
    out = attention.attn_drop(scores.softmax(dim=-1)) @ v
    return attention.proj_drop(attention.proj(out.transpose(1, 2).flatten(2)))


def _mlp(layer: Any, x: Tensor, state: TokenState) -> Tensor:
    branch = layer.ffn(layer.ln2(x))
    if layer.gamma_2 is not None:
        branch = layer.gamma_2 * branch
    return layer.drop_path(branch)
