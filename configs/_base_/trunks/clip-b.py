# CLIP ViT-B/16 (Radford et al., 2021, arXiv 2103.00020) through timm.
trunk = dict(type='TimmViT', model_name='vit_base_patch16_clip_quickgelu_224.openai', weights='hub')
out_indices = [2, 5, 8, 11]
widths = [768, 768, 768, 768]
strides = [16, 16, 16, 16]
normalisation = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])
release = dict(
    input_size=224,
    licence='apache-2.0',
    source='https://huggingface.co/timm/vit_base_patch16_clip_224.openai',
)
