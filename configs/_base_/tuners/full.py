tuner = dict(type='Full')
