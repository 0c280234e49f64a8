# AdamW, 1,050 iterations of one image, a polynomial decay to zero: to see that a model can learn a
# few images. One by one, for a tall and a wide image together are padded to twice their area.
_base_ = 'adamw_coco_1x.py'

max_iters = 1050
optim_wrapper = dict(
    optimizer=dict(lr=3e-4), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.6)))
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=40, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=525)
auto_scale_lr = dict(base_batch_size=1)
