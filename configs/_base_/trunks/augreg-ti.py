# AugReg ViT-Ti/16, ImageNet-21k (Steiner et al., 2021, arXiv 2106.10270) through timm.
trunk = dict(type='TimmViT', model_name='vit_tiny_patch16_224.augreg_in21k', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [192, 192, 192, 192]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
release = dict(
    input_size=224,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_tiny_patch16_224.augreg_in21k',
)
