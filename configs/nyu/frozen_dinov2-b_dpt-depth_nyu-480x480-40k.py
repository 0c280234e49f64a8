_base_ = [
    '../_base_/trunks/dinov2-b.py',
    '../_base_/tuners/frozen.py',
    '../_base_/heads/dpt-depth.py',
    '../_base_/datasets/nyu_480x480.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/mmseg_depth.py',
]
from mmsigma.config import connect

model = connect(_base_)
