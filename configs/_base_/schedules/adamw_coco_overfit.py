# AdamW, 1,800 iterations of 2, a polynomial decay to zero: to see that a model can learn a few
# images. A twentieth of the heads' rate inside the trunk: heads cannot follow features that move
# as fast as they do.
_base_ = 'adamw_coco_1x.py'

max_iters = 1800
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.05)))
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=40, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=900)
auto_scale_lr = dict(base_batch_size=2)
