"""SSF: scaling and shifting deep features (Lian et al., NeurIPS 2022, arXiv 2210.08823).

Behind the patch embedding, every Linear layer and every norm of the blocks, and the final norm::

    y <- gamma * y + beta        one gamma and one beta per channel

Behind a Linear layer, a convolution or a norm this merges into weight and bias.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.block import CALLED
from mmsigma.models.tuners.base import Kind, Tuner, is_number
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.layers import NORMS, final_norms
from mmsigma.registry import TUNERS


class ScaleShift(nn.Module):
    """``gamma * y + beta`` over the channels of a layer's output.

    Args:
        width: Channels.
        dim: Which dimension of the output they are, 1 or -1.
        std: Standard deviation of the initial gamma (around 1) and beta (around 0).
    """

    def __init__(self, width: int, dim: int, std: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width).normal_(1, std))
        self.beta = nn.Parameter(torch.empty(width).normal_(0, std))
        self.dim = dim

    def forward(self, y: Tensor) -> Tensor:
        """A tensor of the shape and dtype of ``y``."""
        shape = [-1] + [1] * (y.dim() - 2) if self.dim == 1 else [-1]
        gamma, beta = (v.to(y.dtype).view(shape) for v in (self.gamma, self.beta))
        return torch.addcmul(beta, y, gamma)


@TUNERS.register_module()
@dataclass
class SSF(Tuner):
    """Scales and shifts behind the layers of the trunk.

    Args:
        std: Standard deviation of the initial values; the release starts near the identity, not at
            it.
    """

    requires = frozenset({CALLED})

    std: Annotated[float, Kind('is a finite number >= 0', lambda v: is_number(v) and v >= 0)] = 0.02

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put a scale and a shift behind each layer."""
        trunk: Any = context.trunk
        for path, layer, parent in _layers(context):
            if not trunk.calls(path):
                raise InvalidSettingError(
                    f'SSF cannot scale {path} of this trunk: {type(parent).__name__} reads its '
                    'weight without calling it. Use a trunk whose attention calls its layers '
                    '(TimmViT, TimmSwin with Swin V1, ...), or another tuner.'
                )
            weight = next(layer.parameters(recurse=False))
            two_d = isinstance(layer, nn.Conv2d) or type(layer).__name__.endswith('2d')
            adapter = ScaleShift(len(weight), 1 if two_d else -1, self.std)
            context.put_output_hook(layer, path.replace('.', '_'), adapter)
        return ()

    def merge(self, context: InjectionContext) -> dict[str, Any]:
        """Merge every scale and shift into the layer before it: gamma W and gamma b + beta.

        Raises:
            InvalidSettingError: A layer without a bias, which the trunk's own model could not load
                with one.
        """
        scaled: list[tuple[str, Any, Any]] = list(context.output_hooks())
        # RMS norms have no such attribute at all.
        biases = {path: getattr(layer, 'bias', None) for path, layer, _ in scaled}
        bare = [path for path, _, adapter in scaled if biases[path] is None and adapter.beta.any()]
        if bare:
            raise InvalidSettingError(
                f'SSF does not merge into this trunk: {len(bare)} layers have no bias that could '
                f'take a shift ({", ".join(bare[:4])}{", ..." if len(bare) > 4 else ""}), and '
                'upstream builds them without. Run the model as it is, adapters and all.'
            )
        for path, layer, adapter in scaled:
            gamma = adapter.gamma.view(-1, *[1] * (layer.weight.dim() - 1))
            layer.weight.mul_(gamma)
            bias = biases[path]
            if bias is not None:
                bias.mul_(adapter.gamma).add_(adapter.beta)
        context.remove_output_hooks()
        return {'type': 'Frozen'}


def _layers(context: InjectionContext) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Name, layer and parent of what SSF scales: in the patch embedding, the blocks, at the end."""
    inside = {id(m) for block in context.blocks for m in block.module.modules()}
    ends = {id(m) for m in final_norms(context)}
    for path, module in context.trunk.named_modules():
        parent = context.trunk.get_submodule(path.rpartition('.')[0])
        own = list(module.parameters(recurse=False))
        scaled = bool(own) and isinstance(module, (nn.Linear, *NORMS))
        embeds = isinstance(module, nn.Conv2d) and 'patch_embed' in path
        if (id(module) in inside and scaled) or id(module) in ends or embeds:
            yield path, module, parent
