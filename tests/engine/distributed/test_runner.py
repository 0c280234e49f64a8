"""What MMEngine's runners do with parameters that are integers."""

import torch
from mmengine.model import BaseModule
from torch import nn

from mmsigma.engine.distributed.runner import integers_aside


def test_models_with_integers_are_initialised():
    """MMEngine takes the mean of every parameter, as it does of a trunk's in int8."""
    model = BaseModule()
    values = torch.arange(6, dtype=torch.int8).reshape(2, 3)
    model.values = nn.Parameter(values, requires_grad=False)
    model.layer = nn.Linear(2, 2)
    with integers_aside(model):
        model.init_weights()
        assert model.values.shape == (2, 3)
    assert model.values.dtype == torch.int8 and torch.equal(model.values, values)
    assert model.is_init
