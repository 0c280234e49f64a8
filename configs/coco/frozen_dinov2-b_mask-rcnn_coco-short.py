_base_ = [
    '../_base_/trunks/dinov2-b.py',
    '../_base_/tuners/frozen.py',
    '../_base_/heads/mask-rcnn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_coco_short.py',
    '../_base_/runtime/mmdet.py',
]
from mmsigma.config import connect, rates

model = connect(_base_)
optim_wrapper = rates(_base_)
