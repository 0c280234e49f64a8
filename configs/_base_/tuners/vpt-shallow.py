tuner = dict(type='VPT', deep=False)
