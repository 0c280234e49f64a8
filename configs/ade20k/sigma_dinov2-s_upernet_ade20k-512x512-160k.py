_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    neck=dict(in_channels=_base_.widths, in_strides=_base_.strides),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=_base_.inference,
)
