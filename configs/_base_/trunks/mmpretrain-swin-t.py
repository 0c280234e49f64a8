# Swin-T, ImageNet-1k (Liu et al., 2021, arXiv 2103.14030) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'swin-t.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainSwin',
    arch='tiny',
    weights=weights_file('swin_tiny_patch4_window7_224-160bb0a5.pth'),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/swin-transformer/convert/swin_tiny_patch4_window7_224-160bb0a5.pth',
)
