"""Sweeps of which a sample is in ``make test`` and the whole in ``make test-slow``."""

from collections.abc import Callable, Collection
from typing import Any

import pytest


def sampled(values: Collection[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test: those that are not ``quick`` are marked slow.

    Args:
        values: One for each case, a tuple where the test takes several arguments.
        quick: Whether a value is in the sample.
    """
    cases = [value if isinstance(value, tuple) else (value,) for value in values]
    return [
        pytest.param(*case, marks=() if quick(value) else pytest.mark.slow)
        for value, case in zip(values, cases, strict=True)
    ]
