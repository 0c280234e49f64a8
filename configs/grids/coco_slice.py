# What adaptation brings to instance segmentation, on 100 images of COCO: Mask R-CNN small, 24
# epochs, one image a step. Sized for a CPU. The slice has no test split: validation is all there
# is, and it chooses the rate too (docs/grids.md).
leaf = '../coco_slice/{method}_dinov2-s_mask-rcnn-small_coco-slice.py'
methods = ['full', 'sigma', 'frozen']
settings = ['../_base_/schedules/adamw_coco_slice_bs1.py']
# The weight decay of the runs in results/, made before COCO's schedules had their rule for it: there
# is none on norms and biases of neck and heads, and no decay of rates by layer.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.05))
    ),
    clip_grad=dict(max_norm=1.0),
)
options = {
    'optim_wrapper': optim_wrapper,
    'model.backbone.autocast': 'bfloat16',  # detection's operators know float32 alone
    'default_hooks.checkpoint.interval': 200,
    'default_hooks.visualization.draw': False,
}
del optim_wrapper
# The heads' rate; what is inside the trunk learns at a twentieth of it.
rates = [1e-3]
seeds = [0]
metric = 'coco/segm_mAP'
