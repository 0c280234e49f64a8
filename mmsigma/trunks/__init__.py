"""Families of frozen backbones, one file each."""

from mmsigma.trunks.base import Trunk
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
