# Cascade Mask R-CNN (Cai and Vasconcelos, TPAMI 2019) in mmdet's settings: three stages of boxes,
# each from better ones; otherwise as Mask R-CNN.
_base_ = 'mask-rcnn.py'

# Stricter boxes, and smaller corrections, from stage to stage.
stages = [(0.5, (0.1, 0.2)), (0.6, (0.05, 0.1)), (0.7, (0.033, 0.067))]
model = dict(
    type='CascadeRCNN',
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9)),
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                _base_.model.roi_head.bbox_head,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[centre, centre, size, size],
                ),
                reg_class_agnostic=True,
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
            )
            for _, (centre, size) in stages
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                _base_.model.train_cfg.rcnn,
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=overlap,
                    neg_iou_thr=overlap,
                    min_pos_iou=overlap,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
            )
            for overlap, _ in stages
        ]
    ),
)
