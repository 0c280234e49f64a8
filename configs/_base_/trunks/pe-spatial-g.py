# Perception Encoder, spatial, ViT-G/14 (Bolya et al., 2025, arXiv 2504.13181) through timm.
trunk = dict(type='TimmEVA', model_name='vit_pe_spatial_gigantic_patch14_448.fb', weights='hub')
out_indices = [11, 24, 37, 49]
widths = [1536, 1536, 1536, 1536]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
release = dict(
    input_size=448,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_pe_spatial_gigantic_patch14_448.fb',
)
