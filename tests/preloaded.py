"""Imported once by the server from which the processes of tests are forked."""

import torch

from tests.processes import preload

torch.set_num_threads(1)
preload()
