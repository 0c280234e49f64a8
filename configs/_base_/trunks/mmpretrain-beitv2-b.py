# BEiT v2 ViT-B/16 (Peng et al., 2022, arXiv 2208.06366) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
_base_ = 'beitv2-b.py'
from mmsigma.config import weights_file

trunk = dict(
    _delete_=True,
    type='MMPretrainBEiT',
    arch='base',
    weights=weights_file('beitv2-base_3rdparty_in1k_20221114-73e11905.pth'),
)
release = dict(
    source='https://mmassets.onedl.ai/'
    'mmclassification/v0/beit/beitv2-base_3rdparty_in1k_20221114-73e11905.pth',
)
