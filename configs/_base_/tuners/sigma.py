tuner = dict(type='SIGMA')
