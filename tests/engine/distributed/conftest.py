"""What the tests of several processes share."""

import pytest
from safetensors.torch import load_file, save_file

from tests.fixtures import Workplace


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Data, weights and work directories of one test module."""
    place = Workplace(tmp_path_factory.mktemp('place'))
    weights = load_file(place.weights)
    # Untrained, DINOv2's blocks are scaled by 1e-5: nothing inside them would train.
    for name in [name for name in weights if name.endswith('.gamma')]:
        weights[name].fill_(1)
    save_file(weights, place.weights)
    return place
