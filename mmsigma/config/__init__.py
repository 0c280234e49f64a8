"""Composing a config from a trunk, a tuner, a head and data.

What configs themselves import stands here. MMEngine reads a file that imports before its ``_base_``
as one of another kind, so such lines stand below ``_base_``.
"""

from mmsigma.config.model import connect, rates
from mmsigma.config.pipelines import semantic_pipelines
from mmsigma.config.places import data_folder, weights_file

__all__ = ['connect', 'data_folder', 'rates', 'semantic_pipelines', 'weights_file']
