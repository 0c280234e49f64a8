tuner = dict(type='Rein')
