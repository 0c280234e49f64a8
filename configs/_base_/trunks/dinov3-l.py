# DINOv3 ViT-L/16 (Siméoni et al., 2025, arXiv 2508.10104) through timm.
trunk = dict(type='TimmEVA', model_name='vit_large_patch16_dinov3.lvd1689m', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=256,
    licence='dinov3-license',
    source='https://huggingface.co/timm/vit_large_patch16_dinov3.lvd1689m',
)
