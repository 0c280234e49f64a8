tuner = dict(type='SSF')
