# MAE ViT-H/14 (He et al., 2021, arXiv 2111.06377) through timm.
trunk = dict(type='TimmViT', model_name='vit_huge_patch14_224.mae', weights='hub')
out_indices = [7, 15, 23, 31]
widths = [1280, 1280, 1280, 1280]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='cc-by-nc-4.0',
    source='https://huggingface.co/timm/vit_huge_patch14_224.mae',
)
