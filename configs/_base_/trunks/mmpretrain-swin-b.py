# Swin-B, ImageNet-22k to 1k (Liu et al., 2021, arXiv 2103.14030) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainSwin',
    arch='base',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'swin_base_patch4_window12_384_22kto1k-d59b0d1d.pth',
    ),
    model_args=dict(img_size=384, window_size=12),
)
out_indices = [1, 3, 21, 23]
widths = [128, 256, 512, 1024]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=384,
    licence='mit',
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/swin-transformer/convert/swin_base_patch4_window12_384_22kto1k-d59b0d1d.pth',
)
