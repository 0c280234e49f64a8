# Hiera-B+, MAE (Ryali et al., 2023, arXiv 2306.00989) through timm.
trunk = dict(type='TimmHiera', model_name='hiera_base_plus_224.mae', weights='hub')
out_indices = [1, 4, 20, 23]
widths = [112, 224, 448, 896]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='cc-by-nc-4.0',
    source='https://huggingface.co/timm/hiera_base_plus_224.mae',
)
