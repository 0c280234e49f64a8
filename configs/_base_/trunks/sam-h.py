# SAM ViT-H/16 image encoder (Kirillov et al., 2023, arXiv 2304.02643) through timm.
trunk = dict(type='TimmSAM', model_name='samvit_huge_patch16.sa1b', weights='hub')
out_indices = [7, 15, 23, 31]
widths = [1280, 1280, 1280, 1280]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=1024,
    licence='apache-2.0',
    source='https://huggingface.co/timm/samvit_huge_patch16.sa1b',
)
