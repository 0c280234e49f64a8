_base_ = [
    '../_base_/trunks/dinov2-s.py',
    '../_base_/tuners/full.py',
    '../_base_/heads/retinanet.py',
    '../_base_/datasets/coco_slice_detection.py',
    '../_base_/schedules/adamw_coco_slice.py',
    '../_base_/runtime/mmdet.py',
]

pad = _base_.pad_tokens * _base_.strides[-1]
levels = [size * _base_.strides[-1] for size in _base_.level_sizes]
model = dict(
    data_preprocessor=dict(pad_size_divisor=pad, **_base_.normalisation),
    backbone=dict(trunk=_base_.trunk, tuner=_base_.tuner, out_indices=_base_.out_indices),
    neck=dict(in_channels=_base_.widths, in_strides=_base_.strides),
    bbox_head=dict(anchor_generator=dict(strides=levels)),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=_base_.full_decay_rate))
