"""``tools/launches.py``: GPUs alone have anything to show there."""

import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_without_a_gpu_it_says_so(place, capsys):
    assert place.call('launches') == 2
    assert 'needs a GPU' in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch finds no GPU')
def test_rows(place, capsys):
    shape = 'vit_tiny_patch16_224:32x48:2'
    assert place.call('launches', '--shape', shape, '--tuners', 'SIGMA', '--repeats', '2') == 0
    assert capsys.readouterr().out.count('| SIGMA |') == 2
