_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/full.py',
    '../_base_/heads/linear.py',
    '../_base_/datasets/brain_mni152.py',
    '../_base_/schedules/adamw_60.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner),
    decode_head=dict(
        in_channels=_base_.widths[-1], channels=_base_.widths[-1], num_classes=_base_.num_classes
    ),
)
