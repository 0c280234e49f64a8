# TIPSv2 ViT-So400m/14 (after TIPS, Maninis et al., 2024, arXiv 2410.16512) through timm.
trunk = dict(type='TimmViT', model_name='vit_so400m_patch14_reg1_tipsv2.webli', weights='hub')
out_indices = [6, 13, 19, 26]
widths = [1152, 1152, 1152, 1152]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[0, 0, 0], std=[255, 255, 255])
release = dict(
    input_size=448,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_so400m_patch14_reg1_tipsv2.webli',
)
