# The same shape of schedule in 150 iterations: what a grid of fifty runs on a CPU can spend on one.
_base_ = 'adamw_4k.py'

max_iters = 150
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=15),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=15, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=75)
