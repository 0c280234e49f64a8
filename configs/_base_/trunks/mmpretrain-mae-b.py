# MAE ViT-B/16, 1600 epochs (He et al., 2021, arXiv 2111.06377) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'mae-b.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainViT',
    arch='base',
    weights=weights_file('mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth'),
)
release = dict(
    licence='not stated',
    source='https://mmassets.onedl.ai/'
    'mmselfsup/1.x/mae/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth',
)
