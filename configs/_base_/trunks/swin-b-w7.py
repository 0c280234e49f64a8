# Swin-B, ImageNet-22k, windows of 7 (Liu et al., 2021, arXiv 2103.14030) through timm.
trunk = dict(type='TimmSwin', model_name='swin_base_patch4_window7_224.ms_in22k', weights='hub')
out_indices = [1, 3, 21, 23]
widths = [128, 256, 512, 1024]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='mit',
    source='https://huggingface.co/timm/swin_base_patch4_window7_224.ms_in22k',
)
