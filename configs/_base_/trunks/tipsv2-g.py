# TIPSv2 ViT-g/14 (after TIPS, Maninis et al., 2024, arXiv 2410.16512) through timm.
trunk = dict(type='TimmViT', model_name='vit_giant_patch14_reg1_tipsv2.webli', weights='hub')
out_indices = [9, 19, 29, 39]
widths = [1536, 1536, 1536, 1536]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[0, 0, 0], std=[255, 255, 255])
release = dict(
    input_size=448,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_giant_patch14_reg1_tipsv2.webli',
)
