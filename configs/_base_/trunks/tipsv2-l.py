# TIPSv2 ViT-L/14 (after TIPS, Maninis et al., 2024, arXiv 2410.16512) through timm.
trunk = dict(type='TimmViT', model_name='vit_large_patch14_reg1_tipsv2.webli', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[0, 0, 0], std=[255, 255, 255])
release = dict(
    input_size=448,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_large_patch14_reg1_tipsv2.webli',
)
