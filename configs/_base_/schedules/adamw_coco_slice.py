# AdamW, 24 epochs of 100 images at batch 2, a polynomial decay to zero.
_base_ = 'adamw_coco_1x.py'

max_iters = 1200
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=300)
auto_scale_lr = dict(base_batch_size=2)
