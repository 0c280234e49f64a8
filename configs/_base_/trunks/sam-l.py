# SAM ViT-L/16 image encoder (Kirillov et al., 2023, arXiv 2304.02643) through timm.
trunk = dict(type='TimmSAM', model_name='samvit_large_patch16.sa1b', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=1024,
    licence='apache-2.0',
    source='https://huggingface.co/timm/samvit_large_patch16.sa1b',
)
