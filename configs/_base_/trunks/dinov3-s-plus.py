# DINOv3 ViT-S+/16 (Siméoni et al., 2025, arXiv 2508.10104) through timm.
_base_ = 'dinov3-s.py'

trunk = dict(model_name='vit_small_plus_patch16_dinov3.lvd1689m')
release = dict(source='https://huggingface.co/timm/vit_small_plus_patch16_dinov3.lvd1689m')
