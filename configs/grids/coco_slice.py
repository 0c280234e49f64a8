# What adaptation brings to instance segmentation, on 100 images of COCO: Mask R-CNN small, 24
# epochs, one image a step. Sized for a CPU. The slice has no test split: validation is all there
# is, and it chooses the rate too (docs/grids.md).
leaf = '../coco_slice/{method}_dinov2-s_mask-rcnn-small_coco-slice.py'
methods = ['full', 'sigma', 'frozen']
settings = ['../_base_/schedules/adamw_coco_slice_bs1.py']
options = {
    'model.backbone.autocast': 'bfloat16',  # detection's operators know float32 alone
    'default_hooks.checkpoint.interval': 200,
    'default_hooks.visualization.draw': False,
}
# The heads' rate, which docs/results.md chose on sixteen images; inside the trunk 0.6 of it.
rates = [3e-4]
seeds = [0]
metric = 'coco/segm_mAP'
