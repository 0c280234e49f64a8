# Every process has a part of every parameter, the frozen trunk's too, and of the optimiser:
# PyTorch's fully_shard (FSDP2) in MMEngine's FlexibleRunner. For trunks that leave no room.
strategy = dict(type='mmsigma.FSDP2Strategy', sync_bn='torch')
