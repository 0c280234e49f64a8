# SigLIP2 ViT-B/16 at 512 pixels (Tschannen et al., 2025, arXiv 2502.14786) through timm.
trunk = dict(type='TimmViT', model_name='vit_base_patch16_siglip_512.v2_webli', weights='hub')
width = 768
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
