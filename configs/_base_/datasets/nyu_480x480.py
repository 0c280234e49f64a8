# NYU Depth v2 (Silberman et al., ECCV 2012): depth in metres up to 10, 24,231 training and 654 test
# images of 640x480 pixels, crops of 480x480. MMSIGMA_DATA names the folder that holds nyu/, in
# mmseg's layout. Four images a process: four processes make a batch of 16.
import os

data_root = os.path.join(
    os.environ.get('MMSIGMA_DATA', os.path.normpath('{{ fileDirname }}/../../../../shared/data')),
    'nyu',
)
crop_size = (480, 480)
# Windows of the crop's size, each also seen in a mirror, as in VPD (Zhao et al., ICCV 2023).
inference = dict(mode='slide_flip', crop_size=crop_size, stride=(160, 160))
meta_keys = (
    'img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip',
    'flip_direction', 'category_id',
)  # fmt: skip

train_pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmsigma.PositionSeededSampler', shuffle=True),
    dataset=dict(
        type='NYUDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train', depth_map_path='annotations/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='NYUDataset',
        data_root=data_root,
        test_mode=True,
        data_prefix=dict(img_path='images/test', depth_map_path='annotations/test'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='DepthMetric', min_depth_eval=1e-3, max_depth_eval=10.0, crop_type='nyu_crop'
)
test_evaluator = val_evaluator
