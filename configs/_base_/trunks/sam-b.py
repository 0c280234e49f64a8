# SAM ViT-B/16 image encoder (Kirillov et al., 2023, arXiv 2304.02643) through timm.
trunk = dict(type='TimmSAM', model_name='samvit_base_patch16.sa1b', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [768, 768, 768, 768]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=1024,
    licence='apache-2.0',
    source='https://huggingface.co/timm/samvit_base_patch16.sa1b',
)
