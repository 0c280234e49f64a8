# Trunks that cannot carry a tuner, by tuner: python tools/configs.py --write-refused
refused = {}
