# CLIP ViT-L/14 at 336 pixels (Radford et al., 2021, arXiv 2103.00020) through timm.
trunk = dict(
    type='TimmViT', model_name='vit_large_patch14_clip_quickgelu_336.openai', weights='hub'
)
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])
release = dict(
    input_size=336,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_large_patch14_clip_336.openai',
)
