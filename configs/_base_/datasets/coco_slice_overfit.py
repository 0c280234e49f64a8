# The first 16 training images of the slice are all there is: training and evaluating on them
# shows that a model can learn at all.
_base_ = 'coco_slice_instance.py'

pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=_base_.scale, keep_ratio=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=1, dataset=dict(indices=16, pipeline=pipeline))
# Not test_mode: the same images are filtered out. The ground truth comes from the dataset, for
# ann_file would count the other images as missed.
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        test_mode=False,
        indices=16,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator
