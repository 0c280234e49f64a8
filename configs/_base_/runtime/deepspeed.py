# DeepSpeed's ZeRO in MMEngine's FlexibleRunner: stage 2 shards gradients and optimiser, stage 3 the
# parameters too (--cfg-options strategy.zero_optimization.stage=3). Needs the package deepspeed;
# docs/distributed.md says what of this was run here.
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(
        stage=2,
        overlap_comm=True,
        contiguous_gradients=True,
        reduce_scatter=True,
    ),
    exclude_frozen_parameters=True,  # checkpoints of what trains
)
