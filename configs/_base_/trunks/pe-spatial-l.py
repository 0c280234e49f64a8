# Perception Encoder, spatial, ViT-L/14 (Bolya et al., 2025, arXiv 2504.13181) through timm.
trunk = dict(type='TimmEVA', model_name='vit_pe_spatial_large_patch14_448.fb', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
release = dict(
    input_size=448,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_pe_spatial_large_patch14_448.fb',
)
