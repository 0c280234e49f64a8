# Hiera-H, MAE (Ryali et al., 2023, arXiv 2306.00989) through timm.
trunk = dict(type='TimmHiera', model_name='hiera_huge_224.mae', weights='hub')
out_indices = [1, 7, 43, 47]
widths = [256, 512, 1024, 2048]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='cc-by-nc-4.0',
    source='https://huggingface.co/timm/hiera_huge_224.mae',
)
