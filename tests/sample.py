"""Sweeps of which a sample is in ``make test`` and the whole in ``make test-slow``."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test: those that are not ``quick`` are marked slow.

    Args:
        values: One for each case, a tuple where the test takes several arguments.
        quick: Whether a value is in the sample.
    """
    return [
        value
        if quick(value)
        else pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow
        )
        for value in values
    ]
