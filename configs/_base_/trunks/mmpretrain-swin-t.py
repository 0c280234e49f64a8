# Swin-T, ImageNet-1k (Liu et al., 2021, arXiv 2103.14030) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainSwin',
    arch='tiny',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'swin_tiny_patch4_window7_224-160bb0a5.pth',
    ),
)
out_indices = [1, 3, 9, 11]
widths = [96, 192, 384, 768]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='mit',
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/swin-transformer/convert/swin_tiny_patch4_window7_224-160bb0a5.pth',
)
