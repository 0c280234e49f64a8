# DINOv2 ViT-L/14 (Oquab et al., 2023, arXiv 2304.07193) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainViT',
    arch='large',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'vit-large-p14_dinov2-pre_3rdparty_20230426-f3302d9e.pth',
    ),
    model_args=dict(img_size=518, patch_size=14, layer_scale_init_value=1e-5),
)
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=518,
    licence='apache-2.0',
    source='https://mmassets.onedl.ai/'
    'mmpretrain/v1.0/dinov2/vit-large-p14_dinov2-pre_3rdparty_20230426-f3302d9e.pth',
)
