"""mmpretrain's BEiT: plain transformers with relative position biases, and the EVA models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.block import CALLED
from mmsigma.models.trunks.mmpretrain_models import (
    BLOCK,
    Convert,
    PlainMMPretrainTrunk,
    resize_table,
)
from mmsigma.models.trunks.tokens import TokenState
from mmsigma.registry import TRUNKS

Grid = tuple[int, int]
_TABLE = 'relative_position_bias_table'
_EXTRA = 3  # last entries of a table: class to token, token to class, class to class


@TRUNKS.register_module()
class MMPretrainBEiT(PlainMMPretrainTrunk):
    """An ``mmpretrain.models.BEiTViT`` (Bao et al., arXiv 2106.08254; v2: 2208.06366) or an EVA.

    On a grid other than the native one, the tables of relative positions are resampled as BEiT's
    release does when it loads weights of another image size; gradients reach the tables there too.

    A dict as ``arch`` has ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``;
    ``'eva-g'`` is an EVA. Released models norm after pooling, so they have no final norm.

    Raises:
        InvalidSettingError: There are relative positions but no class token.
    """

    upstream = 'BEiTViT'
    # What upstream has behind its blocks, and for its pretraining task.
    left_out = ('ln2.', 'mask_token')
    normed = False
    names = replace(BLOCK, scales=('gamma_1', 'gamma_2'), drop_paths=('drop_path', 'drop_path'))

    @classmethod
    def provided(cls, config: Mapping[str, Any]) -> frozenset[str]:
        """Attention with biases reads the weight of its layer; see :meth:`Trunk.provided`."""
        layers = (config.get('model_args') or {}).get('layer_cfgs') or {}
        biased = not isinstance(layers, Mapping) or layers.get('bias', 'qv_bias') == 'qv_bias'
        return cls.provides - ({CALLED} if biased else set())

    def converts(self, model: Any) -> list[Convert]:
        """Tables of relative positions, too; see :meth:`MMPretrainTrunk.converts`."""
        relative = model.use_rel_pos_bias or model.rel_pos_bias is not None
        if relative and model.cls_token is None:
            raise InvalidSettingError(
                "mmpretrain's relative position biases count a class token, so BEiTViT cannot run "
                'with them and with_cls_token=False. Leave with_cls_token out, or set '
                'use_rel_pos_bias=False.'
            )
        model.pre_norm = nn.Identity()  # other plain transformers have one
        own = [] if model.pos_embed is None else super().converts(model)
        return [partial(_fit_tables, model), *own]

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patches, class token and position embedding; biases are shared with the blocks."""
        tokens, state = super().embed(images)
        biases = self._biases((state.layout.height, state.layout.width))
        return tokens, replace(state, shared=biases)

    @property
    def native(self) -> Grid:
        """The grid that the model is built for, in tokens."""
        return tuple(self.model.patch_resolution)

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

    @staticmethod
    def attend(layer: Any, index: int, x: Tensor, state: TokenState) -> Tensor:
        """Attention of a layer with the biases of the grid; see :class:`PlainMMPretrainTrunk`."""
        biases = state.shared
        if biases.tables is None:
            return layer.attn(x, rel_pos_bias=biases.common)
        return _biased(layer.attn, x, _bias(biases.tables[index], biases.index))


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
    return torch.cat((resize_table(head, old, new), extra), dim=-2)


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
