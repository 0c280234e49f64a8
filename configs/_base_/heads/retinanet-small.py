# RetinaNet for two CPU cores: images of a short side of 320 rather than 800, so anchors are smaller
# too; half the width, two convolutions in each tower.
_base_ = 'retinanet.py'

width = 128
fpn = dict(type='FPN', out_channels=width, start_level=1, add_extra_convs='on_input', num_outs=5)
model = dict(
    neck=dict(out_channels=width),
    bbox_head=dict(
        in_channels=width,
        feat_channels=width,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2),
    ),
)
