_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/full.py',
    '../_base_/heads/linear.py',
    '../_base_/datasets/brain_mni152.py',
    '../_base_/schedules/adamw_60.py',
    '../_base_/runtime/mmseg.py',
]
from mmsigma.config import connect

model = connect(_base_)
