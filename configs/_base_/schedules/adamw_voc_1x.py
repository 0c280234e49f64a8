# The schedule of adamw_coco_1x.py for VOC: 12 epochs of 16,551 images at batch 16 (1,034 iterations
# each).
_base_ = 'adamw_coco_1x.py'

epoch = 1034
max_iters = 12 * epoch
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
train_cfg = dict(max_iters=max_iters, val_interval=epoch)
