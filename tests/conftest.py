"""What every test runs under."""

import torch

torch.set_num_threads(1)  # the models are tiny: threads only get into each other's way
