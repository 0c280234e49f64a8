# Cityscapes (Cordts et al., CVPR 2016): 19 classes, 2,975 training and 500 validation images of
# 2048x1024 pixels, crops of 1024x512. MMSIGMA_DATA names the folder that holds cityscapes/, in
# mmseg's layout, with labelTrainIds.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('cityscapes')
num_classes = 19
crop_size = (512, 1024)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 682))
train_pipeline, test_pipeline = semantic_pipelines(scale=(2048, 1024), crop_size=crop_size)
train_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
