# Panoptic Mask2Former for two CPU cores: levels of twice the stride, three layers of the decoder
# and two of the pixel decoder, a quarter of the points.
_base_ = 'mask2former-panoptic.py'

model = dict(
    neck=dict(strides=[8, 16, 32, 64]),
    panoptic_head=dict(
        strides=[8, 16, 32, 64],
        pixel_decoder=dict(encoder=dict(num_layers=2)),
        transformer_decoder=dict(num_layers=3),
    ),
    train_cfg=dict(num_points=3136),
)
