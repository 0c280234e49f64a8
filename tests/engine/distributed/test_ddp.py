"""What crosses the wire under DDP: the gradients of what trains, all of them in every step."""

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from mmsigma.engine.hooks import MeanLossHook
from tests import tiny
from tests.engine.distributed.group import group_of_one


@pytest.fixture(scope='module', autouse=True)
def group():
    with group_of_one():
        yield


@pytest.mark.parametrize('tuner', [t for t in tiny.TUNERS if t != 'Frozen'])
def test_only_what_trains_is_sent_and_nothing_is_left_out(tuner):
    model = tiny.backbone('registers', tuner).train()
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    images = tiny.images('registers')
    for _ in range(2):  # the second step raises if the first left a parameter without gradient
        tiny.loss(wrapped(images)).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    data = wrapped._get_ddp_logging_data()
    assert data['find_unused_parameters'] == 0
    assert data['num_parameter_tensors'] == len(trained)
    size = sum(p.numel() * p.element_size() for p in trained)
    assert data['total_parameter_size_bytes'] == size
    assert sum(map(int, data['bucket_sizes'].split(', '))) == size
    if tuner != 'Full':
        assert size < sum(p.numel() * p.element_size() for p in model.parameters())


def test_losses_of_one_process_stay_what_they_are():
    losses = {'loss': torch.tensor(2.0), 'acc': torch.tensor([50.0]), 'time': 1.0}
    MeanLossHook().after_train_iter(None, 0, outputs=losses)
    assert losses['loss'] == 2 and losses['acc'].shape == (1,)
