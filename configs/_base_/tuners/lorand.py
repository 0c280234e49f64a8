tuner = dict(type='LoRand')
