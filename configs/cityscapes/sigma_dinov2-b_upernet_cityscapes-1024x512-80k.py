_base_ = [
    '../_base_/trunks/dinov2-b.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/cityscapes_1024x512.py',
    '../_base_/schedules/adamw_80k.py',
    '../_base_/runtime/mmseg.py',
]
from mmsigma.config import connect

model = connect(_base_)
