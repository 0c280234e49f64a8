# Pascal Context (Mottaghi et al., CVPR 2014) without its background: 59 classes, 4,996 training and
# 5,104 validation images, crops of 480x480. MMSIGMA_DATA names the folder that holds
# VOCdevkit/VOC2010/, in mmseg's layout.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('VOCdevkit/VOC2010')
num_classes = 59
crop_size = (480, 480)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(320, 320))
train_pipeline, test_pipeline = semantic_pipelines(
    scale=(520, 520), crop_size=crop_size, reduce_zero_label=True
)
train_dataloader = dict(
    dataset=dict(
        type='PascalContextDataset59',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
        ann_file='ImageSets/SegmentationContext/train.txt',
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='PascalContextDataset59',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
        ann_file='ImageSets/SegmentationContext/val.txt',
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
