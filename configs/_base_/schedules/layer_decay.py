# Full fine-tuning: lower rates for earlier blocks, and no weight decay on norms, biases and scales.
# Beside a schedule in `_base_`, and a line in the config: optim_wrapper = _base_.layer_decay
# A schedule's own rate of the backbone stays, and multiplies: docs/training.md.
layer_decay = dict(
    constructor='mmsigma.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.7),  # ViTDet's for ViT-B; 0.8 for L, 0.9 for H
)
