# Electron micrographs of a fly larva's ventral nerve cord (Gerhard et al., figshare 856713): grey
# tiles of 512x512 pixels, 48 for training, 12 for validation, 12 for testing, synapses 255. Seen at
# about twice their size, since a membrane is thinner than a patch. 1008 is four crops of 252:
# evaluation takes sixteen windows side by side, each pixel once, so that three validations and the
# test cost a tenth of 600 steps of 4. MMSIGMA_DATA names the folder that holds vnc/.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder

data_root = data_folder('vnc')
num_classes = 4
scale = (1008, 1008)
crop_size = (252, 252)
inference = dict(mode='slide', crop_size=crop_size, stride=crop_size)

train_pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=False),
    # Behind the resize: metrics are computed at the labels' own size.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        metainfo=dict(
            classes=('membrane', 'glia or extracellular', 'mitochondrion', 'cell interior'),
            palette=[[220, 60, 60], [240, 200, 80], [80, 160, 80], [90, 110, 200]],
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        metainfo=train_dataloader['dataset']['metainfo'],
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'],
        data_prefix=dict(img_path='img_dir/test', seg_map_path='ann_dir/test'),
    ),
)
