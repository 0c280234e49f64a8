# ISPRS Potsdam: aerial images cut into tiles of 512x512 pixels, 6 classes, 3,456 training and 2,016
# validation tiles. MMSIGMA_DATA names the folder that holds potsdam/, in mmseg's layout. Four
# images a process: four processes make a batch of 16.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('potsdam')
num_classes = 6
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))
train_pipeline, test_pipeline = semantic_pipelines(
    scale=(512, 512), crop_size=crop_size, reduce_zero_label=True
)
train_dataloader = dict(
    dataset=dict(
        type='PotsdamDataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='PotsdamDataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
