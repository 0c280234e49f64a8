tuner = dict(type='Mona')
