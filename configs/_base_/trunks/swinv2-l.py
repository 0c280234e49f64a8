# Swin V2-L, ImageNet-22k (Liu et al., 2021, arXiv 2111.09883) through timm.
trunk = dict(type='TimmSwin', model_name='swinv2_large_window12_192.ms_in22k', weights='hub')
out_indices = [1, 3, 21, 23]
widths = [192, 384, 768, 1536]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=192,
    licence='mit',
    source='https://huggingface.co/timm/swinv2_large_window12_192.ms_in22k',
)
