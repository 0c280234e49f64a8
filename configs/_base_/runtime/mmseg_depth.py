# As mmseg.py for depth, where the error of the best checkpoint is the lowest.
_base_ = 'mmseg.py'

default_hooks = dict(checkpoint=dict(save_best='rmse', rule='less'))
