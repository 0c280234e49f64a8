# CamVid, SegNet's 11 classes: 367 training, 101 validation and 233 test images of 480x360 pixels,
# void 255. Seen at 448x336. MMSIGMA_DATA names the folder that holds camvid/.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('camvid')
num_classes = 11
scale = (448, 336)
crop_size = (336, 448)
train_pipeline, test_pipeline = semantic_pipelines(
    scale=scale, crop_size=crop_size, ratio_range=(0.75, 2.0), keep_ratio=False
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        metainfo=dict(
            classes=(
                'sky', 'building', 'pole', 'road', 'sidewalk', 'tree', 'sign symbol', 'fence',
                'car', 'pedestrian', 'bicyclist',
            ),
            palette=[
                [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [0, 0, 192],
                [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0],
                [0, 128, 192],
            ],
        ),
        pipeline=train_pipeline,
    ),
)  # fmt: skip
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
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
