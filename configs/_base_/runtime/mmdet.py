# Every mmdet run.
_base_ = 'default.py'

default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,  # hardly two batches are of one size
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
default_hooks = dict(
    checkpoint=dict(save_best='auto'),  # the first metric: PQ, or the AP of boxes
    visualization=dict(type='DetVisualizationHook', draw=True, interval=20),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmsigma.EmptyPanopticHook'),
    dict(type='mmsigma.PanopticTruthHook'),
]
visualizer = dict(type='DetLocalVisualizer', vis_backends=_base_.vis_backends, name='visualizer')
