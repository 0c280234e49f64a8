# COCO-Stuff 164k (Caesar et al., CVPR 2018): 171 classes, 118,287 training and 5,000 validation
# images, crops of 512x512. MMSIGMA_DATA names the folder that holds coco_stuff164k/, in mmseg's
# layout, with labelTrainIds.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('coco_stuff164k')
num_classes = 171
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))
train_pipeline, test_pipeline = semantic_pipelines(scale=(2048, 512), crop_size=crop_size)
train_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
