# Perception Encoder, spatial, ViT-S/16 (Bolya et al., 2025, arXiv 2504.13181) through timm.
trunk = dict(type='TimmEVA', model_name='vit_pe_spatial_small_patch16_512.fb', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [384, 384, 384, 384]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
release = dict(
    input_size=512,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_pe_spatial_small_patch16_512.fb',
)
