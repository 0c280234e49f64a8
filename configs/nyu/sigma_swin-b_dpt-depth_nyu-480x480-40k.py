_base_ = [
    '../_base_/trunks/swin-b.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/dpt-depth.py',
    '../_base_/datasets/nyu_480x480.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/mmseg_depth.py',
]

model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    neck=dict(in_channels=_base_.widths, in_strides=_base_.strides),
    test_cfg=_base_.inference,
)
