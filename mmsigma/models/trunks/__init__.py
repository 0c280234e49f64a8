"""Families of frozen backbones, one file each."""

from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.mmpretrain_beit import MMPretrainBEiT
from mmsigma.models.trunks.mmpretrain_eva02 import MMPretrainEVA02
from mmsigma.models.trunks.mmpretrain_sam import MMPretrainSAM
from mmsigma.models.trunks.mmpretrain_swin import MMPretrainSwin, MMPretrainSwinV2
from mmsigma.models.trunks.mmpretrain_vit import MMPretrainViT
from mmsigma.models.trunks.timm_beit import TimmBEiT
from mmsigma.models.trunks.timm_eva import TimmEVA
from mmsigma.models.trunks.timm_generic import TimmGeneric
from mmsigma.models.trunks.timm_hiera import TimmHiera
from mmsigma.models.trunks.timm_hieradet import TimmHieraDet
from mmsigma.models.trunks.timm_sam import TimmSAM
from mmsigma.models.trunks.timm_swin import TimmSwin
from mmsigma.models.trunks.timm_vit import TimmViT

__all__ = [
    'MMPretrainBEiT',
    'MMPretrainEVA02',
    'MMPretrainSAM',
    'MMPretrainSwin',
    'MMPretrainSwinV2',
    'MMPretrainViT',
    'TimmBEiT',
    'TimmEVA',
    'TimmGeneric',
    'TimmHiera',
    'TimmHieraDet',
    'TimmSAM',
    'TimmSwin',
    'TimmViT',
    'Trunk',
]
