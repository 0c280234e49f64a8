# Axial slices of the MNI152 brain template (tools/dataset_converters/brain_slices.py): 80 training
# and 32 validation images of 238x196 pixels. MMSIGMA_DATA names the folder that holds
# brain_mni152/.
import os

data_root = os.path.join(
    os.environ.get('MMSIGMA_DATA', os.path.expanduser('~/.cache/mmsigma')), 'brain_mni152'
)
num_classes = 3
metainfo = dict(
    classes=('background', 'grey matter', 'white matter'),
    palette=[[0, 0, 0], [214, 96, 77], [255, 255, 191]],
)
pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=6,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmsigma.PositionSeededSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        metainfo=metainfo,
        pipeline=[*pipeline[:3], dict(type='RandomFlip', prob=0.5), pipeline[3]],
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        metainfo=metainfo,
        pipeline=pipeline,
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
