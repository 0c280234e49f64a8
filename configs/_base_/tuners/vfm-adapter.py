tuner = dict(type='VFMAdapter')
