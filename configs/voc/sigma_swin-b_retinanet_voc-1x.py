_base_ = [
    '../_base_/trunks/swin-b.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/retinanet.py',
    '../_base_/datasets/voc_detection.py',
    '../_base_/schedules/adamw_voc_1x.py',
    '../_base_/runtime/mmdet.py',
]

model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    neck=dict(_delete_=True, in_channels=_base_.widths, **_base_.fpn),
    bbox_head=dict(num_classes=_base_.num_classes),
)
