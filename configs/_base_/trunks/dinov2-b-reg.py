# DINOv2 ViT-B/14 with registers (Darcet et al., 2023, arXiv 2309.16588) through timm.
_base_ = 'dinov2-b.py'

trunk = dict(model_name='vit_base_patch14_reg4_dinov2.lvd142m')
release = dict(source='https://huggingface.co/timm/vit_base_patch14_reg4_dinov2.lvd142m')
