# What adaptation brings to instance segmentation, on 100 images of COCO: Mask R-CNN small, the
# leaf's own schedule. The slice has no test split: validation is all there is, and it chooses the
# rate too (docs/grids.md).
leaf = '../coco_slice/{method}_dinov2-s_mask-rcnn-small_coco-slice.py'
methods = ['frozen', 'sigma', 'full']
options = {
    'model.backbone.autocast': 'bfloat16',  # detection's operators know float32 alone
    'default_hooks.checkpoint.interval': 100,
    'default_hooks.visualization.draw': False,
}
rates = [5e-4]
seeds = [0]
metric = 'coco/segm_mAP'
