# DINOv3 ViT-L/16 of satellite images (Siméoni et al., 2025, arXiv 2508.10104) through timm.
trunk = dict(type='TimmEVA', model_name='vit_large_patch16_dinov3.sat493m', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[109.65, 104.805, 75.48], std=[54.315, 39.78, 36.465])
release = dict(
    input_size=256,
    licence='dinov3-license',
    source='https://huggingface.co/timm/vit_large_patch16_dinov3.sat493m',
)
