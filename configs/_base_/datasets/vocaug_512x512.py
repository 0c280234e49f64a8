# PASCAL VOC 2012 (Everingham et al., IJCV 2015) with the further labels of Hariharan et al. (ICCV
# 2011): 21 classes, 10,582 training and 1,449 validation images, crops of 512x512. MMSIGMA_DATA
# names the folder that holds VOCdevkit/VOC2012/, in mmseg's layout.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('VOCdevkit/VOC2012')
num_classes = 21
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))
train_pipeline, test_pipeline = semantic_pipelines(scale=(2048, 512), crop_size=crop_size)
train_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='PascalVOCDataset',
                data_root=data_root,
                data_prefix=dict(img_path='JPEGImages', seg_map_path=labels),
                ann_file=f'ImageSets/Segmentation/{split}.txt',
                pipeline=train_pipeline,
            )
            for split, labels in (('train', 'SegmentationClass'), ('aug', 'SegmentationClassAug'))
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
