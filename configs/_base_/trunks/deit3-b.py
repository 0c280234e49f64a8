# DeiT III ViT-B/16 (Touvron et al., 2022, arXiv 2204.07118) through timm.
trunk = dict(type='TimmViT', model_name='deit3_base_patch16_224.fb_in22k_ft_in1k', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [768, 768, 768, 768]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=224,
    licence='apache-2.0',
    source='https://huggingface.co/timm/deit3_base_patch16_224.fb_in22k_ft_in1k',
)
