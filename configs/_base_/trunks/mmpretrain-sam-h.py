# SAM ViT-H/16 image encoder (Kirillov et al., 2023, arXiv 2304.02643) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'sam-h.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainSAM',
    arch='huge',
    weights=weights_file('vit-huge-p16_sam-pre_3rdparty_sa1b-1024px_20230411-3f13c653.pth'),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmclassification/v1/vit_sam/vit-huge-p16_sam-pre_3rdparty_sa1b-1024px_20230411-3f13c653.pth',
)
