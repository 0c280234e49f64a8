"""What every test runs under."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')  # the models are tiny: threads get into their way

import pytest
import torch

from tests import leaks
from tests.leaks import nothing_is_left  # noqa: F401  (a fixture of all tests)

torch.set_num_threads(1)
leaks.begin()
_BEFORE = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember what the checkout holds; the workers of pytest-xdist share it."""
    if not hasattr(config, 'workerinput'):
        config.stash[_BEFORE] = leaks.checkout()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that leaves files in the checkout."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    new = sorted(leaks.checkout() - before)
    if new:
        print('\nleft in the checkout:', *new, sep='\n')
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
