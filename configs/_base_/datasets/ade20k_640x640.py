# ADE20K at crops of 640x640, as is usual with large trunks.
_base_ = 'ade20k_512x512.py'
from mmsigma.config import semantic_pipelines

crop_size = (640, 640)
inference = dict(crop_size=crop_size, stride=(426, 426))
train_pipeline, test_pipeline = semantic_pipelines(
    scale=(2560, 640), crop_size=crop_size, reduce_zero_label=True
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
