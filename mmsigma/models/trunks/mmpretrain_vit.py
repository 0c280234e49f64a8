"""mmpretrain's VisionTransformer as a trunk: DINOv2, MAE, DeiT, CLIP, ..."""

from mmsigma.models.trunks.block import PROMPTS, USUAL
from mmsigma.models.trunks.mmpretrain_models import PlainMMPretrainTrunk
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class MMPretrainViT(PlainMMPretrainTrunk):
    """An ``mmpretrain.models.VisionTransformer`` (Dosovitskiy et al., arXiv 2010.11929).

    A dict as ``arch`` has ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
    """

    upstream = 'VisionTransformer'
    provides = USUAL | {PROMPTS}
