_base_ = [
    '../_base_/trunks/dinov2-b.py',
    '../_base_/tuners/sigma.py',
    '../_base_/heads/mask2former-semantic.py',
    '../_base_/datasets/gta_512x512.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/mmseg.py',
]

weights = _base_.class_weights
model = dict(
    data_preprocessor=_base_.normalisation,
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    neck=dict(in_channels=_base_.widths, in_strides=_base_.strides),
    decode_head=dict(
        num_classes=_base_.num_classes,
        loss_cls=dict(class_weight=weights.each * _base_.num_classes + weights.none),
    ),
    test_cfg=_base_.inference,
)
