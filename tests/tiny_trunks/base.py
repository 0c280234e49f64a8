"""What a test must know of a tiny trunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor, nn

from mmsigma.models.tuners.injection import POSITIONS


@dataclass(frozen=True)
class Tiny:
    """A family at the size of milliseconds, beside upstream's own model of the same weights.

    Attributes:
        config: The trunk's config, without ``weights``.
        upstream: Builds upstream's own model; ``upstream(norm)`` with or without its final norm.
        maps: ``maps(model, images, norm)``: what upstream's model returns for images that need no
            padding, the maps of the last output blocks (all that it can give).
        patch: Side of a token at the embedding, in pixels.
        multiple: Images are padded to multiples of this; ``patch`` if None.
        widths, strides: Channels and stride of the default output maps.
        depth: Number of blocks.
        prefix: Prefix tokens.
        class_token: Whether the first is a class token.
        norms: The values of ``final_norm`` that the family has.
        dropout: The model argument that is a dropout rate.
        args: The config's key for upstream's arguments, for tests that change them.
        positions: The places that adapters can sit at.
    """

    config: dict[str, Any]
    upstream: Callable[[bool], nn.Module]
    maps: Callable[[nn.Module, Tensor, bool], Sequence[Tensor]]
    patch: int
    widths: Sequence[int] = (32, 32)
    strides: Sequence[int] | None = None
    multiple: int | None = None
    depth: int = 2
    prefix: int = 0
    class_token: bool = False
    norms: Sequence[bool] = (True, False)
    dropout: str | None = 'proj_drop_rate'
    positions: Sequence[str] = POSITIONS


def timm_tiny(
    family: str, model_name: str, model_args: dict[str, Any], patch: int, **facts: Any
) -> Tiny:
    """A timm model with these arguments, compared with its ``forward_intermediates``.

    Beside the facts of :class:`Tiny`: ``options``, further arguments of upstream's model, and
    ``behind``, the names of what it has behind the trunk.
    """
    options = {'num_classes': 0, **facts.pop('options', {})}
    behind = facts.pop('behind', ())

    def upstream(norm: bool) -> nn.Module:
        model = timm.create_model(model_name, **options, **model_args)
        for name in behind:
            setattr(model, name, nn.Identity())
        return model

    def maps(model: Any, images: Tensor, norm: bool) -> Sequence[Tensor]:
        return model.forward_intermediates(images, norm=norm, intermediates_only=True)

    return Tiny(
        config={'type': family, 'model_name': model_name, 'model_args': model_args},
        upstream=upstream,
        maps=facts.pop('maps', maps),
        patch=patch,
        **facts,
    )
