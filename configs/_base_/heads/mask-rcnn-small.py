# Mask R-CNN for two CPU cores: images of a short side of 320 rather than 800, so anchors and the
# sizes that choose a level are smaller too; levels of half the width, the finest one left out, few
# proposals and regions (half of them on objects), two mask
# convolutions, four samples in each bin of RoIAlign.
_base_ = 'mask-rcnn.py'

width = 128
fpn = dict(type='FPN', out_channels=width, start_level=1, num_outs=4)
level_sizes = [1 / 2, 1, 2, 4]
roi_layer = dict(sampling_ratio=2)
model = dict(
    neck=dict(out_channels=width, strides=[8, 16, 32]),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        # From 16 pixels on the finest level: half of COCO's objects are below 20 at this size, and
        # an anchor of 32 overlaps none of those enough to learn from.
        anchor_generator=dict(scales=[2, 4, 8], strides=[8, 16, 32, 64]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=width,
            roi_layer=roi_layer,
            featmap_strides=[8, 16, 32],
            finest_scale=28,
        ),
        bbox_head=dict(in_channels=width, fc_out_channels=512),
        mask_roi_extractor=dict(
            out_channels=width,
            roi_layer=roi_layer,
            featmap_strides=[8, 16, 32],
            finest_scale=28,
        ),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=2),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64, pos_fraction=0.5)),
    ),
)
