# BEiT ViT-L/16 (Bao et al., 2021, arXiv 2106.08254) through timm.
trunk = dict(type='TimmBEiT', model_name='beit_large_patch16_224.in22k_ft_in22k', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
release = dict(
    input_size=224,
    licence='apache-2.0',
    source='https://huggingface.co/timm/beit_large_patch16_224.in22k_ft_in22k',
)
