# Mask2Former for panoptic segmentation: COCO's 53 classes of stuff beside its 80 things.
_base_ = 'mask2former.py'

things, stuff = 80, 53
classes = dict(num_things_classes=things, num_stuff_classes=stuff)
model = dict(
    data_preprocessor=dict(pad_seg=True, seg_pad_value=255),
    panoptic_head=dict(loss_cls=dict(class_weight=[1.0] * (things + stuff) + [0.1]), **classes),
    panoptic_fusion_head=classes,
    test_cfg=dict(panoptic_on=True),
)
