# DINOv2 ViT-g/14 with registers (Darcet et al., 2023, arXiv 2309.16588) through timm.
_base_ = 'dinov2-g.py'

trunk = dict(model_name='vit_giant_patch14_reg4_dinov2.lvd142m')
release = dict(source='https://huggingface.co/timm/vit_giant_patch14_reg4_dinov2.lvd142m')
