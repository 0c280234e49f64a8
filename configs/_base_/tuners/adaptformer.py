tuner = dict(type='AdaptFormer')
