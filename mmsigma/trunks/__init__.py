"""Families of frozen backbones, one file each."""

from mmsigma.trunks.base import Trunk
from mmsigma.trunks.mmpretrain_beit import MMPretrainBEiT
from mmsigma.trunks.mmpretrain_eva02 import MMPretrainEVA02
from mmsigma.trunks.mmpretrain_sam import MMPretrainSAM
from mmsigma.trunks.mmpretrain_swin import MMPretrainSwin, MMPretrainSwinV2
from mmsigma.trunks.mmpretrain_vit import MMPretrainViT
from mmsigma.trunks.timm_beit import TimmBEiT
from mmsigma.trunks.timm_eva import TimmEVA
from mmsigma.trunks.timm_generic import TimmGeneric
from mmsigma.trunks.timm_hiera import TimmHiera
from mmsigma.trunks.timm_hieradet import TimmHieraDet
from mmsigma.trunks.timm_sam import TimmSAM
from mmsigma.trunks.timm_swin import TimmSwin
from mmsigma.trunks.timm_vit import TimmViT

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
