# BEiT v2 ViT-B/16 (Peng et al., 2022, arXiv 2208.06366) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainBEiT',
    arch='base',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'beitv2-base_3rdparty_in1k_20221114-73e11905.pth',
    ),
)
out_indices = [2, 5, 8, 11]
widths = [768, 768, 768, 768]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='apache-2.0',
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/beit/beitv2-base_3rdparty_in1k_20221114-73e11905.pth',
)
