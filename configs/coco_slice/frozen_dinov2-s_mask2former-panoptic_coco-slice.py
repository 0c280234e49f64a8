_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/frozen.py',
    '../_base_/heads/mask2former-panoptic.py',
    '../_base_/datasets/coco_slice_panoptic.py',
    '../_base_/schedules/adamw_coco_slice.py',
    '../_base_/runtime/mmdet.py',
]
from mmsigma.config import connect, rates

model = connect(_base_)
optim_wrapper = rates(_base_)
