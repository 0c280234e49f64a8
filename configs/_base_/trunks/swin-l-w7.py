# Swin-L, ImageNet-22k, windows of 7 (Liu et al., 2021, arXiv 2103.14030) through timm.
_base_ = 'swin-l.py'

trunk = dict(model_name='swin_large_patch4_window7_224.ms_in22k')
release = dict(
    input_size=224, source='https://huggingface.co/timm/swin_large_patch4_window7_224.ms_in22k'
)
