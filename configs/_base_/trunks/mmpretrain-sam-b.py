# SAM ViT-B/16 image encoder (Kirillov et al., 2023, arXiv 2304.02643) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'sam-b.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainSAM',
    arch='base',
    weights=weights_file('vit-base-p16_sam-pre_3rdparty_sa1b-1024px_20230411-2320f9cc.pth'),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmclassification/v1/vit_sam/vit-base-p16_sam-pre_3rdparty_sa1b-1024px_20230411-2320f9cc.pth',
)
