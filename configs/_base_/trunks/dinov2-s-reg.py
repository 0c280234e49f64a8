# DINOv2 ViT-S/14 with registers (Darcet et al., 2023, arXiv 2309.16588) through timm.
_base_ = 'dinov2-s.py'

trunk = dict(model_name='vit_small_patch14_reg4_dinov2.lvd142m', weights='hub')
release = dict(source='https://huggingface.co/timm/vit_small_patch14_reg4_dinov2.lvd142m')
