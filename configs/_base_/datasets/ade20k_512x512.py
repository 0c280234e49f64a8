# ADE20K (Zhou et al., CVPR 2017), SceneParse150: 150 classes, 20,210 training and 2,000 validation
# images, crops of 512x512. MMSIGMA_DATA names the folder that holds ade/ADEChallengeData2016/, in
# mmseg's layout.
_base_ = 'common/semantic.py'
from mmsigma.config import data_folder, semantic_pipelines

data_root = data_folder('ade/ADEChallengeData2016')
num_classes = 150
crop_size = (512, 512)
# Windows of the crop's size that overlap by a third, for every trunk alike.
inference = dict(mode='slide', crop_size=crop_size, stride=(341, 341))
train_pipeline, test_pipeline = semantic_pipelines(
    scale=(2048, 512), crop_size=crop_size, reduce_zero_label=True
)
train_dataloader = dict(
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
