# SAM 2.1 Hiera-L image encoder (Ravi et al., 2024, arXiv 2408.00714) through timm.
trunk = dict(type='TimmHieraDet', model_name='sam2_hiera_large.fb_r1024_2pt1', weights='hub')
out_indices = [1, 7, 43, 47]
widths = [144, 288, 576, 1152]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=1024,
    licence='apache-2.0',
    source='https://huggingface.co/timm/sam2_hiera_large.fb_r1024_2pt1',
)
