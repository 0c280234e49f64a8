# AIMv2 ViT-3B/14 at 336 pixels (Fini et al., 2024, arXiv 2411.14402) through timm.
trunk = dict(type='TimmViT', model_name='aimv2_3b_patch14_336.apple_pt', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [3072, 3072, 3072, 3072]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])
release = dict(
    input_size=336,
    licence='apple-ascl',
    source='https://huggingface.co/timm/aimv2_3b_patch14_336.apple_pt',
)
