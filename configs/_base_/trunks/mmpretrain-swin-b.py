# Swin-B, ImageNet-22k to 1k (Liu et al., 2021, arXiv 2103.14030) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'swin-b.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainSwin',
    arch='base',
    weights=weights_file('swin_base_patch4_window12_384_22kto1k-d59b0d1d.pth'),
    model_args=dict(img_size=384, window_size=12),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/swin-transformer/convert/swin_base_patch4_window12_384_22kto1k-d59b0d1d.pth',
)
