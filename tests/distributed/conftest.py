"""What the tests of several processes share."""

import pytest

from tests.fixtures import Workplace


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Data, weights and work directories of one test module."""
    return Workplace(tmp_path_factory.mktemp('place'))
