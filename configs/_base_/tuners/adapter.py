tuner = dict(type='Adapter')
