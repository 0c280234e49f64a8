"""GPU kernels in Triton; each has a form in plain PyTorch that computes the same."""
