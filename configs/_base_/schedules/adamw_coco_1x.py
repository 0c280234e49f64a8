# AdamW, 12 epochs of COCO at batch 16 (7,330 iterations each), the rate divided by ten after 8
# and 11. No weight decay on norms, biases, scales and other vectors.
epoch = 7330
max_iters = 12 * epoch
# Leaves of Full take it: the rate from a block to the one before. ViTDet's for ViT-B; 0.8 for L,
# 0.9 for H.
full_decay_rate = 0.7
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmsigma.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[8 * epoch, 11 * epoch],
        gamma=0.1,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# For --cfg-options auto_scale_lr.enable=True where the batch is another.
auto_scale_lr = dict(enable=False, base_batch_size=16)
