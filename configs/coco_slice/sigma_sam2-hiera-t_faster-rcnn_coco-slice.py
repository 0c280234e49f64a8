_base_ = [
    '../_base_/trunks/sam2-hiera-t.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/faster-rcnn.py',
    '../_base_/datasets/coco_slice_detection.py',
    '../_base_/schedules/adamw_coco_slice.py',
    '../_base_/runtime/mmdet.py',
]

model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    neck=dict(_delete_=True, in_channels=_base_.widths, **_base_.fpn),
)
