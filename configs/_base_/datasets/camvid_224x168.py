# CamVid at 224x168, for grids of many runs on a CPU.
_base_ = 'camvid_448x336.py'
from mmsigma.config import semantic_pipelines

scale = (224, 168)
train_pipeline, test_pipeline = semantic_pipelines(
    scale=scale, crop_size=(168, 224), ratio_range=(0.75, 2.0), keep_ratio=False
)
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
