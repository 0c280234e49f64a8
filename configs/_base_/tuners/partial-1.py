tuner = dict(type='Partial')
