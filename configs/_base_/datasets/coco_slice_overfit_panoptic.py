# The 16 images of coco_slice_overfit.py, panoptic; they are judged by PQ alone.
_base_ = 'coco_slice_panoptic.py'

pipeline = [
    dict(type='mmsigma.SeedFromPosition'),
    dict(type='LoadImageFromFile'),
    dict(type='mmsigma.LoadPanoptic'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=_base_.scale, keep_ratio=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=1, dataset=dict(indices=16, pipeline=pipeline))
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        test_mode=False,
        indices=16,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='mmsigma.PanopticQuality')
test_evaluator = val_evaluator
