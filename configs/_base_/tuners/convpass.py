tuner = dict(type='Convpass')
