# Domain generalisation: trained on GTAV (Richter et al., ECCV 2016; 24,966 rendered images) alone,
# evaluated on the validation images of Cityscapes (500), BDD100K (Yu et al., CVPR 2020; 1,000) and
# Mapillary Vistas (Neuhold et al., ICCV 2017; 2,000), all by Cityscapes' 19 classes; sizes as in
# Rein (Wei et al., CVPR 2024). MMSIGMA_DATA names the folder that holds gta/, cityscapes/, bdd100k/
# and mapillary/, the labels of all as labelTrainIds.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder

num_classes = 19
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))

train_pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(1280, 720)),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# What it is evaluated on: size, images, labels, and how their names end.
targets = dict(
    cityscapes=(
        (1024, 512), 'leftImg8bit/val', 'gtFine/val', '_leftImg8bit.png',
        '_gtFine_labelTrainIds.png',
    ),
    bdd100k=((1280, 720), 'images/10k/val', 'labels/sem_seg/masks/val', '.jpg', '.png'),
    mapillary=(
        (1024, 512), 'validation/images', 'cityscapes_trainIdLabel/val/label', '.jpg', '.png'
    ),
)  # fmt: skip

train_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_folder('gta'),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        seg_map_suffix='_labelTrainIds.png',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='CityscapesDataset',
                data_root=data_folder(name),
                data_prefix=dict(img_path=images, seg_map_path=labels),
                img_suffix=img_suffix,
                seg_map_suffix=seg_map_suffix,
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale=scale, keep_ratio=True),
                    # Behind the resize: metrics are computed at the labels' own size.
                    dict(type='LoadAnnotations'),
                    dict(type='PackSegInputs'),
                ],
            )
            for name, (scale, images, labels, img_suffix, seg_map_suffix) in targets.items()
        ],
    ),
)
test_dataloader = val_dataloader
# Each data set's own mIoU, and their mean, by which the best checkpoint is chosen.
val_evaluator = dict(
    _delete_=True,
    type='mmsigma.ByDataset',
    metric=dict(type='mmseg.IoUMetric', iou_metrics=['mIoU']),
    folders={name: data_folder(name) for name in targets},
)
test_evaluator = val_evaluator
