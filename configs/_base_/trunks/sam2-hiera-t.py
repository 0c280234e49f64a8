# SAM 2.1 Hiera-T image encoder (Ravi et al., 2024, arXiv 2408.00714) through timm.
trunk = dict(type='TimmHieraDet', model_name='sam2_hiera_tiny.fb_r896_2pt1', weights='hub')
out_indices = [0, 2, 9, 11]
widths = [96, 192, 384, 768]
strides = [4, 8, 16, 32]
normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
release = dict(
    input_size=896,
    licence='apache-2.0',
    source='https://huggingface.co/timm/sam2_hiera_tiny.fb_r896_2pt1',
)
