# Three epochs: enough to tell methods apart.
_base_ = 'adamw_coco_1x.py'

max_iters = 3 * _base_.epoch
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[2 * _base_.epoch],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=max_iters)
