"""How blocks run: compiled, as CUDA graphs, or computed again in the backward pass."""
