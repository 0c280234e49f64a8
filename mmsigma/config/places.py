"""Where data and weights lie: in folders that the environment names, or beside the checkout."""

import os
from pathlib import Path

_SHARED = Path(__file__).parents[3] / 'shared'


def data_folder(name: str) -> str:
    """The path of a data set's folder in ``MMSIGMA_DATA``, or in ``../shared/data``."""
    return os.path.join(os.environ.get('MMSIGMA_DATA', _SHARED / 'data'), name)


def weights_file(name: str) -> str:
    """The path of a file in ``MMSIGMA_WEIGHTS``, or in ``../shared/weights``."""
    return os.path.join(os.environ.get('MMSIGMA_WEIGHTS', _SHARED / 'weights'), name)
