tuner = dict(type='NormTuning')
