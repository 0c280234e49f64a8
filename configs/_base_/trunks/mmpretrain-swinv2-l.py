# Swin V2-L, ImageNet-21k to 1k (Liu et al., 2021, arXiv 2111.09883) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'swinv2-l.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainSwinV2',
    arch='large',
    weights=weights_file('swinv2-large-w24_in21k-pre_3rdparty_in1k-384px_20220803-3b36c165.pth'),
    model_args=dict(
        img_size=384, window_size=[24, 24, 24, 12], pretrained_window_sizes=[12, 12, 12, 6]
    ),
)
release = dict(
    input_size=384,
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/swin-v2/swinv2-large-w24_in21k-pre_3rdparty_in1k-384px_20220803-3b36c165.pth',
)
