# EVA-02 ViT-B/14 (Fang et al., 2023, arXiv 2303.11331) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'eva02-b.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainEVA02',
    arch='base',
    weights=weights_file('eva02-base-p14_pre_in21k_20230505-2f2d4d3c.pth'),
    final_norm=False,
    model_args=dict(patch_size=14, sub_ln=True),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmpretrain/v1.0/eva02/eva02-base-p14_pre_in21k_20230505-2f2d4d3c.pth',
)
