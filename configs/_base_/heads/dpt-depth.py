# The decoder of DPT (Ranftl et al., ICCV 2021) for depth up to 10 metres, on a simple feature
# pyramid, with the loss of Eigen et al. (NeurIPS 2014).
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True, size_divisor=1),
    backbone=dict(type='mmsigma.AdaptedBackbone'),
    neck=dict(type='mmsigma.SimpleFeaturePyramid', out_channels=256, source='each'),
    decode_head=dict(
        type='mmsigma.DPTDepthHead',
        in_channels=[256, 256, 256, 256],
        channels=256,
        max_depth=10.0,
        loss_decode=dict(type='SiLogLoss'),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
