_base_ = [
    '../_base_/trunks/dinov2-l.py',
    '../_base_/tuners/rein.py',
    '../_base_/heads/mask2former-semantic.py',
    '../_base_/datasets/gta_512x512.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/mmseg.py',
]
from mmsigma.config import connect

model = connect(_base_)
