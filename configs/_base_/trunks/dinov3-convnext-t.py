# ConvNeXt-T distilled from DINOv3 (Siméoni et al., 2025, arXiv 2508.10104) through timm.
trunk = dict(type='TimmGeneric', model_name='convnext_tiny.dinov3_lvd1689m', weights='hub')
out_indices = [2, 5, 14, 17]
widths = [96, 192, 384, 768]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='dinov3-license',
    source='https://huggingface.co/timm/convnext_tiny.dinov3_lvd1689m',
)
