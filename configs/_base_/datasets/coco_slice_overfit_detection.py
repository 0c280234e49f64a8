# The 16 images of coco_slice_overfit.py for heads that give boxes alone.
_base_ = 'coco_slice_overfit.py'

no_masks = dict(type='LoadAnnotations', with_bbox=True)
pipeline, test_pipeline = (
    [no_masks if step.type == 'LoadAnnotations' else step for step in steps]
    for steps in (_base_.pipeline, _base_.test_pipeline)
)
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox'])
test_evaluator = val_evaluator
