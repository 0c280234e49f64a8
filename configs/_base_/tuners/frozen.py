tuner = dict(type='Frozen')
