"""Parameter-efficient fine-tuning methods, one file each."""

from mmsigma.tuners.adapter import Adapter
from mmsigma.tuners.adaptformer import AdaptFormer
from mmsigma.tuners.base import Tuner
from mmsigma.tuners.bitfit import BitFit
from mmsigma.tuners.convpass import Convpass
from mmsigma.tuners.frozen import Frozen
from mmsigma.tuners.full import Full
from mmsigma.tuners.hf_peft import HFPeft
from mmsigma.tuners.lorand import LoRand
from mmsigma.tuners.mona import Mona
from mmsigma.tuners.norm_tuning import NormTuning
from mmsigma.tuners.partial import Partial
from mmsigma.tuners.rein import Rein
from mmsigma.tuners.sigma import SIGMA
from mmsigma.tuners.ssf import SSF
from mmsigma.tuners.vfm_adapter import VFMAdapter
from mmsigma.tuners.vpt import VPT

__all__ = [
    'SIGMA',
    'SSF',
    'VPT',
    'AdaptFormer',
    'Adapter',
    'BitFit',
    'Convpass',
    'Frozen',
    'Full',
    'HFPeft',
    'LoRand',
    'Mona',
    'NormTuning',
    'Partial',
    'Rein',
    'Tuner',
    'VFMAdapter',
]
