# The slice for heads that give boxes alone: the images, boxes and sizes of coco_slice_instance.py.
_base_ = 'coco_slice_instance.py'

no_masks = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline, test_pipeline = (
    [no_masks if step.type == 'LoadAnnotations' else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.test_pipeline)
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox'])
test_evaluator = val_evaluator
