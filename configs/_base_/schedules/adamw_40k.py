# The field's protocol for segmentation: AdamW, a warm-up of 1,500 iterations, then a polynomial
# (linear) decay to zero; 40,000 iterations of 16 images. One rate for every method and every part
# of the model.
max_iters = 40000
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmsigma.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# For --cfg-options auto_scale_lr.enable=True where the batch is another.
auto_scale_lr = dict(enable=False, base_batch_size=16)
