# AdamW, 24 epochs of 100 images one by one, a polynomial decay to zero; inside the trunk 0.6 of the
# heads' rate, as in adamw_coco_overfit.py.
_base_ = 'adamw_coco_slice.py'

max_iters = 2400
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.6))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=600)
auto_scale_lr = dict(base_batch_size=1)
