_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/lorand.py',
    '../_base_/heads/fcn.py',
    '../_base_/datasets/camvid_448x336.py',
    '../_base_/schedules/adamw_4k.py',
    '../_base_/runtime/mmseg.py',
]
from mmsigma.config import connect

model = connect(_base_)
