# Mask R-CNN for two CPU cores: levels of half the width, the finest one left out, few proposals and
# regions, two mask convolutions, four samples in each bin of RoIAlign.
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
        # The finest level is gone: small objects get anchors of their size on the next one.
        anchor_generator=dict(scales=[4, 8], strides=[8, 16, 32, 64]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=width, roi_layer=roi_layer, featmap_strides=[8, 16, 32]
        ),
        bbox_head=dict(in_channels=width, fc_out_channels=512),
        mask_roi_extractor=dict(
            out_channels=width, roi_layer=roi_layer, featmap_strides=[8, 16, 32]
        ),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=2),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
