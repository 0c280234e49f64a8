"""Several processes: how they meet, what they check together, and how they share a model.

The engines are MMEngine's: its ``Runner`` with PyTorch's DDP, or its ``FlexibleRunner`` with a
strategy, of which one is here.
"""
