# LoveDA (Wang et al., NeurIPS 2021): aerial images of 1024x1024 pixels, 7 classes, 2,522 training
# and 1,669 validation images, crops of 512x512. MMSIGMA_DATA names the folder that holds loveDA/,
# in mmseg's layout.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('loveDA')
num_classes = 7
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))
train_pipeline, test_pipeline = semantic_pipelines(
    scale=(2048, 512), crop_size=crop_size, test_scale=(1024, 1024), reduce_zero_label=True
)
train_dataloader = dict(
    dataset=dict(
        type='LoveDADataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='LoveDADataset',
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
