# SAM ViT-B/16 image encoder (Kirillov et al., 2023, arXiv 2304.02643) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainSAM',
    arch='base',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'vit-base-p16_sam-pre_3rdparty_sa1b-1024px_20230411-2320f9cc.pth',
    ),
)
out_indices = [2, 5, 8, 11]
widths = [768, 768, 768, 768]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=1024,
    licence='apache-2.0',
    source='https://mmassets.onedl.ai/'
    'mmclassification/v1/vit_sam/vit-base-p16_sam-pre_3rdparty_sa1b-1024px_20230411-2320f9cc.pth',
)
