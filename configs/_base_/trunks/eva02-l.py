# EVA-02 ViT-L/14 (Fang et al., 2023, arXiv 2303.11331) through timm.
trunk = dict(type='TimmEVA', model_name='eva02_large_patch14_224.mim_m38m', weights='hub')
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])
release = dict(
    input_size=224,
    licence='mit',
    source='https://huggingface.co/timm/eva02_large_patch14_224.mim_m38m',
)
