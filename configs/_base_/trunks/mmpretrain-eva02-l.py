# EVA-02 ViT-L/14 (Fang et al., 2023, arXiv 2303.11331) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'eva02-l.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainEVA02',
    arch='large',
    weights=weights_file('eva02-large-p14_pre_m38m_20230505-b8a1a261.pth'),
    final_norm=False,
    model_args=dict(patch_size=14, sub_ln=True),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmpretrain/v1.0/eva02/eva02-large-p14_pre_m38m_20230505-b8a1a261.pth',
)
