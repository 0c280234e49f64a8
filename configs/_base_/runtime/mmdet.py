# Logging, checkpoints, pictures and the guards of every mmdet run.
default_scope = 'mmdet'
custom_imports = dict(imports=['mmsigma'], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=False,  # hardly two batches are of one size
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmsigma.AtomicCheckpointHook',
        by_epoch=False,
        interval=500,
        max_keep_ckpts=2,
        save_best='auto',  # the first metric: PQ, or the AP of boxes
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook', draw=True, interval=20),
)
custom_hooks = [
    dict(type='mmsigma.StepSeedHook'),
    dict(type='mmsigma.NonFiniteLossHook'),
    dict(type='mmsigma.LabelCheckHook'),
    dict(type='mmsigma.CheckpointGuardHook'),
    dict(type='mmsigma.EmptyPanopticHook'),
    dict(type='mmsigma.PanopticTruthHook'),
]
vis_backends = [dict(type='mmsigma.AtomicVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False, window_size=10)
log_level = 'INFO'
load_from = None
resume = False
