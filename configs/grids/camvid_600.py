# Methods on CamVid at 308x224, 600 iterations of 4: each with its own rate inside the trunk and its
# own for the head, chosen by the last validation at seed 0; then seeds 0, 1 and 2 at the choice. In
# float32, since not every CPU has bfloat16. A run takes about 15 minutes of one core.
leaf = '../camvid/sigma_dinov2-s_fcn_camvid-308x224.py'
tuner = 'model.backbone.tuner'
lora = dict(r=16, lora_alpha=16, target_modules=['attn.qkv', 'attn.proj'])
methods = {
    'sigma': {},
    # Without scale-adaptive fusion, without semantic modulation, and the adapter that is left.
    'no-saf': {f'{tuner}.fusion': 'none'},
    'no-sm': {f'{tuner}.modulation': 'none'},
    'no-saf-no-sm': {f'{tuner}.fusion': 'none', f'{tuner}.modulation': 'none'},
    'frozen': {tuner: dict(_delete_=True, type='Frozen'), 'inner_rates': [None]},
    'lora': {tuner: dict(_delete_=True, type='HFPeft', peft_type='LORA', **lora)},
    'adapter': {tuner: dict(_delete_=True, type='Adapter')},
    'bitfit': {tuner: dict(_delete_=True, type='BitFit')},
    'mona': {tuner: dict(_delete_=True, type='Mona')},
    'mona-zero': {tuner: dict(_delete_=True, type='Mona', zero_init=True)},
    'adaptformer': {tuner: dict(_delete_=True, type='AdaptFormer')},
    'convpass': {tuner: dict(_delete_=True, type='Convpass')},
    'rein': {tuner: dict(_delete_=True, type='Rein')},
    'vpt-deep': {tuner: dict(_delete_=True, type='VPT')},
    # Its rates fall from block to block downwards, and are lower altogether.
    'full': {
        tuner: dict(_delete_=True, type='Full'),
        'optim_wrapper.constructor': 'mmsigma.LayerDecayOptimWrapperConstructor',
        'optim_wrapper.paramwise_cfg.decay_rate': 0.7,
        'inner_rates': [1e-5, 3e-5, 1e-4, 3e-4],
    },
}
del tuner, lora
options = {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    'default_hooks.checkpoint.interval': 100,
    'default_hooks.visualization.draw': False,
}
rates = [3e-3, 1e-2]
inner_rates = [1e-4, 3e-4, 1e-3, 3e-3]
seeds = [0]
metric = 'mIoU'
