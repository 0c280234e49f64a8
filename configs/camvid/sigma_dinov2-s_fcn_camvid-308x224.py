_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/fcn.py',
    '../_base_/datasets/camvid_308x224.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/runtime/mmseg.py',
]
from mmsigma.config import connect

model = connect(_base_)
