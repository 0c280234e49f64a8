_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/fcn.py',
    '../_base_/datasets/vnc_252x252.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    decode_head=dict(in_channels=_base_.widths, num_classes=_base_.num_classes),
    test_cfg=_base_.inference,
)
