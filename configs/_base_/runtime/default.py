# What every run has: logging, checkpoints, and hooks that guard it; the docstring of each says how.
# A list in a config takes the place of this one: custom_hooks = [*_base_.custom_hooks, ...]
custom_imports = dict(imports=['mmsigma'], allow_failed_imports=False)

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
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(type='mmsigma.StepSeedHook'),
    dict(type='mmsigma.NonFiniteLossHook'),
    dict(type='mmsigma.LabelCheckHook'),
    dict(type='mmsigma.CheckpointGuardHook'),
    dict(type='mmsigma.ScheduleCheckHook'),
    dict(type='mmsigma.PendingValidationHook'),
    dict(type='mmsigma.StopHook'),
    # These do nothing in a run of one process.
    dict(type='mmsigma.MeanLossHook'),
    dict(type='mmsigma.SameBuffersHook'),
    dict(type='mmsigma.RankCheckHook'),
]
vis_backends = [dict(type='mmsigma.AtomicVisBackend')]
log_processor = dict(by_epoch=False, window_size=10)
log_level = 'INFO'
load_from = None
resume = False
