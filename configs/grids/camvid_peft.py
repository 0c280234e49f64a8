# Every tuner on CamVid: one trunk, one head, one schedule, the same three rates for each. Sized for
# a CPU: 224x168 pixels, 150 iterations of 4 images, bfloat16.
leaf = '../camvid/{method}_dinov2-s_fcn_camvid-448x336.py'
methods = [
    'full',
    'frozen',
    'bitfit',
    'norm-tuning',
    'partial-1',
    'vpt-shallow',
    'vpt-deep',
    'adapter',
    'lora',
    'adaptformer',
    'ssf',
    'convpass',
    'lorand',
    'rein',
    'mona',
    'vfm-adapter',
    'sigma',
]
settings = ['../_base_/datasets/camvid_224x168.py', '../_base_/schedules/adamw_150.py']
options = {
    'optim_wrapper.type': 'mmsigma.BFloat16OptimWrapper',
    'val_cfg.fp16': True,  # which is bfloat16 on a CPU
    'test_cfg.fp16': True,
    'default_hooks.checkpoint.interval': 50,
    'default_hooks.visualization.draw': False,
}
# The head's rate; what is inside the trunk learns at a tenth of it, as the schedule says.
rates = [1e-3, 3e-3, 1e-2]
seeds = [0]
metric = 'mIoU'
