# DINOv2 ViT-S/14 (Oquab et al., 2023, arXiv 2304.07193) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'dinov2-s.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainViT',
    arch='dinov2-small',
    weights=weights_file('vit-small-p14_dinov2-pre_3rdparty_20230426-5641ca5a.pth'),
    model_args=dict(img_size=518, patch_size=14, layer_scale_init_value=1e-5),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmpretrain/v1.0/dinov2/vit-small-p14_dinov2-pre_3rdparty_20230426-5641ca5a.pth',
)
