# DINOv2 ViT-B/14 with registers (Darcet et al., 2023, arXiv 2309.16588) through timm.
trunk = dict(type='TimmViT', model_name='vit_base_patch14_reg4_dinov2.lvd142m', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [768, 768, 768, 768]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=518,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_base_patch14_reg4_dinov2.lvd142m',
)
