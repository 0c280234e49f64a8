_base_ = [
    '../_base_/trunks/siglip2-l.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/runtime/mmseg.py',
]
from mmsigma.config import connect

model = connect(_base_)
