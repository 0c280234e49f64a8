# What low precision costs in accuracy: SIGMA on CamVid at 448x336, each setting with the same
# seeds. For a GPU. Rates as in camvid_peft_inside.py.
leaf = '../camvid/sigma_dinov2-s_fcn_camvid-448x336.py'
settings = ['../_base_/schedules/adamw_150.py']
backbone, wrapper = 'model.backbone.', 'optim_wrapper.'
half = {f'{backbone}autocast': 'bfloat16', f'{backbone}trunk.dtype': 'bfloat16'}
methods = {
    'float32': {},
    # The whole model in training, evaluated in float32.
    'amp-bfloat16': {f'{wrapper}type': 'mmsigma.BFloat16OptimWrapper'},
    'amp-float16': {f'{wrapper}type': 'AmpOptimWrapper', f'{wrapper}loss_scale': 'dynamic'},
    # Trunk and adapters, in training and evaluation.
    'autocast-bfloat16': {f'{backbone}autocast': 'bfloat16'},
    'trunk-bfloat16': half,
    'trunk-float16': {f'{backbone}autocast': 'float16', f'{backbone}trunk.dtype': 'float16'},
    'trunk-bfloat16-graphs': {**half, f'{backbone}cuda_graphs': True},
}
options = {
    f'{wrapper}paramwise_cfg.custom_keys.backbone.lr_mult': 0.03,
    'train_cfg.val_interval': 150,
    'train_dataloader.num_workers': 2,
    'default_hooks.checkpoint.interval': 150,
    'default_hooks.visualization.draw': False,
}
del backbone, wrapper, half
rates = [1e-2]
seeds = [0, 1, 2]
metric = 'mIoU'
