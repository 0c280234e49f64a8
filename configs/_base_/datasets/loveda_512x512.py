# LoveDA (Wang et al., NeurIPS 2021): aerial images of 1024x1024 pixels, 7 classes, 2,522 training
# and 1,669 validation images, crops of 512x512. MMSIGMA_DATA names the folder that holds loveDA/,
# in mmseg's layout. Four images a process: four processes make a batch of 16.
import os

data_root = os.path.join(
    os.environ.get('MMSIGMA_DATA', os.path.normpath('{{ fileDirname }}/../../../../shared/data')),
    'loveDA',
)
num_classes = 7
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))

train_pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    # Scales below one leave an image smaller than the crop.
    dict(type='Pad', size=crop_size[::-1], pad_val=dict(img=0, seg=255)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 1024), keep_ratio=True),
    # Behind the resize: metrics are computed at the labels' own size.
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmsigma.PositionSeededSampler', shuffle=True),
    dataset=dict(
        type='LoveDADataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='LoveDADataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
