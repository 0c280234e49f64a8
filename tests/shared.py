"""Real data and weights, which are no part of the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get('MMSIGMA_DATA', ROOT.parent / 'shared/data'))
WEIGHTS = Path(os.environ.get('MMSIGMA_WEIGHTS', ROOT.parent / 'shared/weights'))
DINOV2 = WEIGHTS / 'dinov2_vits14.safetensors'


def need(*paths: Path) -> None:
    """Skip what cannot be tested without these, which continuous integration must not do."""
    for path in paths:
        if path.exists():
            continue
        reason = (
            f'{path} does not exist; put the data and weights beside the checkout, as ../shared, '
            'or set MMSIGMA_DATA and MMSIGMA_WEIGHTS to the folders that hold them'
        )
        if os.environ.get('CI'):
            pytest.fail(reason)
        pytest.skip(reason)
