# The best rate of most heads with a lower one inside the trunk: 1e-2 and 3e-4, not 1e-3.
_base_ = 'camvid_peft.py'

methods = ['sigma', 'lora', 'adapter', 'bitfit', 'vfm-adapter', 'mona']
options = {'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': 0.03}
rates = [1e-2]
