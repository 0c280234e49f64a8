"""Parameter-efficient fine-tuning methods, one file each."""

from mmsigma.tuners.base import Tuner
from mmsigma.tuners.bitfit import BitFit
from mmsigma.tuners.frozen import Frozen
from mmsigma.tuners.full import Full
from mmsigma.tuners.mona import Mona
from mmsigma.tuners.sigma import SIGMA

__all__ = ['SIGMA', 'BitFit', 'Frozen', 'Full', 'Mona', 'Tuner']
