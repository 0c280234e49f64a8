"""Where data and weights lie: in folders that the environment names, or beside the checkout.

Installed from a wheel there is no checkout, and they lie in the folder where a command is run.
"""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_SHARED = Path() if (_PACKAGE / '.mim').is_dir() else _PACKAGE.parents[1] / 'shared'


def data_folder(name: str) -> str:
    """The path of a data set's folder in ``MMSIGMA_DATA``, or in ``../shared/data``."""
    return os.path.join(os.environ.get('MMSIGMA_DATA', _SHARED / 'data'), name)


def weights_file(name: str) -> str:
    """The path of a file in ``MMSIGMA_WEIGHTS``, or in ``../shared/weights``."""
    return os.path.join(os.environ.get('MMSIGMA_WEIGHTS', _SHARED / 'weights'), name)
