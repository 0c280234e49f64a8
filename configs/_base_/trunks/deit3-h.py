# DeiT III ViT-H/14 (Touvron et al., 2022, arXiv 2204.07118) through timm.
trunk = dict(type='TimmViT', model_name='deit3_huge_patch14_224.fb_in22k_ft_in1k', weights='hub')
out_indices = [7, 15, 23, 31]
widths = [1280, 1280, 1280, 1280]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='apache-2.0',
    source='https://huggingface.co/timm/deit3_huge_patch14_224.fb_in22k_ft_in1k',
)
