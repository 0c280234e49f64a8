# DINOv2 ViT-S/14 (Oquab et al., 2023, arXiv 2304.07193) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainViT',
    arch='dinov2-small',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'vit-small-p14_dinov2-pre_3rdparty_20230426-5641ca5a.pth',
    ),
    model_args=dict(img_size=518, patch_size=14, layer_scale_init_value=1e-5),
)
out_indices = [2, 5, 8, 11]
widths = [384, 384, 384, 384]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=518,
    licence='apache-2.0',
    source='https://mmassets.onedl.ai/'
    'mmpretrain/v1.0/dinov2/vit-small-p14_dinov2-pre_3rdparty_20230426-5641ca5a.pth',
)
