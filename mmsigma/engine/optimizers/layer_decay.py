"""Layer-wise learning-rate decay, and no weight decay on norms, biases and scales.

The rates of BEiT (Bao et al., 2022, arXiv 2106.08254) and ViTDet (Li et al., 2022, arXiv
2203.16527). Of a trunk that runs n blocks, with decay rate d::

    layer   0            embeddings, in front of the first block     rate * d ^ (n + 1)
            i = 1 ... n  block i, and what stands in front of it     rate * d ^ (n + 1 - i)
            n + 1        norms behind the last block                 rate
    outside the trunk    adapters, neck, head                        rate

mmdet and mmpretrain have constructors for this that know single models: mmdet's knows ConvNeXt,
mmpretrain's those with ``get_layer_depth``. Here a trunk's own list of blocks says it.
"""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from mmsigma.engine.optimizers.grouped import GroupedOptimWrapperConstructor
from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import OPTIM_WRAPPER_CONSTRUCTORS

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # _NormBase: batch and instance norm


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(GroupedOptimWrapperConstructor):
    """The constructor of few groups, with lower rates for earlier blocks.

    ``optim_wrapper=dict(constructor='mmsigma.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.7), ...)``

    ``paramwise_cfg`` takes ``decay_rate`` (1 by default: all layers alike) and all that MMEngine's
    does. ``norm_decay_mult``, ``bias_decay_mult`` and ``flat_decay_mult`` are 0 by default. The
    last is that of vectors and single numbers (layer scales, gates, class tokens), whatever axes
    of length one they have. ``custom_keys`` multiply: a parameter's rate is that of its key times
    that of its layer, and it keeps its weight decay unless the key has a ``decay_mult``.

    Parameters of one rate and decay share a group; frozen ones and repeated ones have none.

    Args:
        optim_wrapper_cfg: The optimiser wrapper with its ``optimizer``, which needs ``lr``.
        paramwise_cfg: The settings above.

    Raises:
        UnknownNameError: A setting that nothing reads.
        InvalidSettingError: A decay rate outside (0, 1], or no ``lr``.
    """

    known = (*GroupedOptimWrapperConstructor.known, 'decay_rate')

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        settings = self._checked(paramwise_cfg)
        self.decay_rate = settings.pop('decay_rate', 1)
        number = isinstance(self.decay_rate, int | float) and not isinstance(self.decay_rate, bool)
        if not number or not 0 < self.decay_rate <= 1:
            raise InvalidSettingError(
                f'decay_rate is the factor from a block to the one before, above 0 and at most 1; '
                f'given: {self.decay_rate!r}. ViTDet takes 0.7 for ViT-B, 0.8 for L, 0.9 for H.'
            )
        # Never empty: MMEngine would then leave out its rules, and keep frozen parameters.
        super().__init__(optim_wrapper_cfg, {'bypass_duplicate': True, **settings})
        if self.base_lr is None:
            raise InvalidSettingError(
                f'Layer decay needs the learning rate that it multiplies: optimizer=dict(lr=...); '
                f'given: {dict(self.optimizer_cfg)}.'
            )

    def settle(self, params: list[dict[str, Any]], model: nn.Module) -> None:
        """Give each parameter the rate of its layer, and its weight decay.

        Raises:
            InvalidSettingError: A decay rate below one for a model without adapted backbone.
        """
        factors, base = self._factors(model), self.optimizer_cfg['lr']
        owners = {id(p): (m, name) for m in model.modules() for name, p in m._parameters.items()}
        for group in params:
            (parameter,) = group['params']
            group['lr'] = group.get('lr', base) * factors.get(id(parameter), 1)
            decay = self._decay_mult(parameter, *owners[id(parameter)])
            if self.base_wd is not None and decay is not None and 'decay_mult' not in group:
                group['weight_decay'] = self.base_wd * decay

    def _factors(self, model: nn.Module) -> dict[int, float]:
        """The factor of each trunk parameter's rate, by the parameter's id."""
        if self.decay_rate == 1:
            return {}
        backbones = [m for m in model.modules() if isinstance(m, AdaptedBackbone)]
        if not backbones:
            raise InvalidSettingError(
                f'decay_rate={self.decay_rate} has no trunk to decay in: {type(model).__name__} '
                'has no mmsigma.AdaptedBackbone. Use one, or leave decay_rate out.'
            )
        found = {}
        for backbone in backbones:
            top = backbone.out_indices[-1] + 2
            for parameter, layer in layers(backbone).items():
                found[parameter] = self.decay_rate ** (top - layer)
        return found

    def _decay_mult(self, parameter: nn.Parameter, module: nn.Module, name: str) -> float | None:
        """The factor of a parameter's weight decay, or None for MMEngine's."""
        if isinstance(module, _NORMS):
            return self.paramwise_cfg.get('norm_decay_mult', 0)
        if name == 'bias':
            return self.paramwise_cfg.get('bias_decay_mult', 0)
        matrix = isinstance(module, nn.Linear | _ConvNd) and name == 'weight'
        if not matrix and sum(side > 1 for side in parameter.shape) <= 1:
            return self.paramwise_cfg.get('flat_decay_mult', 0)
        return None


def layers(backbone: AdaptedBackbone) -> dict[int, int]:
    """The layer of each parameter of a backbone's trunk, 0 to n + 1, by the parameter's id.

    What is inside no block is in the layer of the next one, in the order in which upstream
    registers its modules: the merging of patches in front of a stage goes with its first block.
    Blocks behind the last output do not train.
    """
    top = backbone.out_indices[-1] + 2
    blocks = enumerate(backbone.trunk.blocks(), start=1)
    inside = {id(p): index for index, block in blocks for p in block.module.parameters()}
    found, reached = {}, 0
    for parameter in map(id, backbone.trunk.parameters()):
        reached = inside.get(parameter, reached)
        following = reached + 1 if reached else 0
        found[parameter] = min(inside.get(parameter, following), top)
    return found
