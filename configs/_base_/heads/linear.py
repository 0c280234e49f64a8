# A linear classifier on the last map: what the trunk does not say, this head cannot add.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size_divisor=1
    ),
    backbone=dict(type='mmsigma.AdaptedBackbone', out_indices=[-1]),
    decode_head=dict(
        type='FCNHead',
        in_index=-1,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
