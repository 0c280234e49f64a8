# What each part of SIGMA brings: one change to the default at a time, at the rates of
# camvid_peft_inside.py. All methods of a seed come before the next seed. In float32, two images a
# step and one validation, for CPUs without bfloat16.
_base_ = 'camvid_peft_inside.py'

leaf = '../camvid/sigma_dinov2-s_fcn_camvid-448x336.py'
tuner = 'model.backbone.tuner.'
methods = {
    '_delete_': True,
    'sigma': {},  # channel gate, kernels 3, 5 and 7, bottleneck 64, after the block
    # Its two modules, scale-adaptive fusion and semantic modulation; without both, what is left
    # is an adapter.
    'no-saf': {f'{tuner}fusion': 'none'},
    'no-sm': {f'{tuner}modulation': 'none'},
    'no-saf-no-sm': {f'{tuner}fusion': 'none', f'{tuner}modulation': 'none'},
    'gate-spatial': {f'{tuner}gate': 'spatial'},
    'gate-static': {f'{tuner}gate': 'static'},
    'gate-mean': {f'{tuner}gate': 'mean'},
    'kernels-3': {f'{tuner}kernel_sizes': (3,)},
    'kernels-7': {f'{tuner}kernel_sizes': (7,)},
    'kernels-3-5': {f'{tuner}kernel_sizes': (3, 5)},
    'kernels-3-5-7-9': {f'{tuner}kernel_sizes': (3, 5, 7, 9)},
    'bottleneck-16': {f'{tuner}bottleneck': 16},
    'bottleneck-32': {f'{tuner}bottleneck': 32},
    'bottleneck-128': {f'{tuner}bottleneck': 128},
    'after-attention': {f'{tuner}position': 'after_attention'},
    'after-mlp': {f'{tuner}position': 'after_mlp'},
    'both': {f'{tuner}position': 'both'},
    'after-attention-residual': {f'{tuner}position': 'after_attention_residual'},
    'parallel-attention': {f'{tuner}position': 'parallel_attention'},
    'parallel-mlp': {f'{tuner}position': 'parallel_mlp'},
}
del tuner
options = {
    'optim_wrapper.type': 'OptimWrapper',
    'val_cfg.fp16': False,
    'test_cfg.fp16': False,
    'train_dataloader.batch_size': 2,
    'train_cfg.val_interval': 150,
}
seeds = [0, 1, 2]
