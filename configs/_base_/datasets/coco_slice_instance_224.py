# coco_slice_instance.py at a short side of 224: what CPUs can train several runs of.
_base_ = 'coco_slice_instance.py'

scale = (373, 224)
train_pipeline, test_pipeline = (
    [{**step, 'scale': scale} if 'scale' in step else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.test_pipeline)
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
