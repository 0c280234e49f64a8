# Every process has the whole model and averages the gradients of what trains: PyTorch's DDP in
# MMEngine's runner. What a launcher does without this file, and statistics of batch norms over all
# GPUs. To be merged over any config: tools/train.py CONFIG --strategy ddp, or in _base_ behind it.
strategy = None
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    # No tuner has parameters that a step does not reach: what no map needs does not train.
    find_unused_parameters=False,
    broadcast_buffers=False,
    gradient_as_bucket_view=True,
)
sync_bn = 'torch'
