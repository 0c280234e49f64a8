# SigLIP2 So400m/16 at 512 pixels (Tschannen et al., 2025, arXiv 2502.14786) through timm.
trunk = dict(type='TimmViT', model_name='vit_so400m_patch16_siglip_512.v2_webli', weights='hub')
out_indices = [6, 13, 19, 26]
widths = [1152, 1152, 1152, 1152]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
release = dict(
    input_size=512,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_so400m_patch16_siglip_512.v2_webli',
)
