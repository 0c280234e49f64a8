# Hiera-T, MAE (Ryali et al., 2023, arXiv 2306.00989) through timm.
trunk = dict(type='TimmHiera', model_name='hiera_tiny_224.mae', weights='hub')
out_indices = [0, 2, 9, 11]
widths = [96, 192, 384, 768]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='cc-by-nc-4.0',
    source='https://huggingface.co/timm/hiera_tiny_224.mae',
)
