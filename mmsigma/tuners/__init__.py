"""Parameter-efficient fine-tuning methods, one file each."""

from mmsigma.tuners.base import Tuner
from mmsigma.tuners.frozen import Frozen
from mmsigma.tuners.full import Full
from mmsigma.tuners.sigma import SIGMA

__all__ = ['SIGMA', 'Frozen', 'Full', 'Tuner']
