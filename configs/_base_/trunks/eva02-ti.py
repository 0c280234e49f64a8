# EVA-02 ViT-Ti/14 (Fang et al., 2023, arXiv 2303.11331) through timm.
trunk = dict(type='TimmEVA', model_name='eva02_tiny_patch14_224.mim_in22k', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [192, 192, 192, 192]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])
release = dict(
    input_size=224,
    licence='mit',
    source='https://huggingface.co/timm/eva02_tiny_patch14_224.mim_in22k',
)
