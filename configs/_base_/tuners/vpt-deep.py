tuner = dict(type='VPT')
