# MAE ViT-L/16 (He et al., 2021, arXiv 2111.06377) through timm.
trunk = dict(type='TimmViT', model_name='vit_large_patch16_224.mae', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='cc-by-nc-4.0',
    source='https://huggingface.co/timm/vit_large_patch16_224.mae',
)
