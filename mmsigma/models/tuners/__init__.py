"""Parameter-efficient fine-tuning methods, one file each."""

from mmsigma.models.tuners.adapter import Adapter
from mmsigma.models.tuners.adaptformer import AdaptFormer
from mmsigma.models.tuners.base import Tuner
from mmsigma.models.tuners.bitfit import BitFit
from mmsigma.models.tuners.convpass import Convpass
from mmsigma.models.tuners.frozen import Frozen
from mmsigma.models.tuners.full import Full
from mmsigma.models.tuners.hf_peft import HFPeft
from mmsigma.models.tuners.lorand import LoRand
from mmsigma.models.tuners.mona import Mona
from mmsigma.models.tuners.norm_tuning import NormTuning
from mmsigma.models.tuners.partial import Partial
from mmsigma.models.tuners.rein import Rein
from mmsigma.models.tuners.sigma import SIGMA
from mmsigma.models.tuners.ssf import SSF
from mmsigma.models.tuners.vfm_adapter import VFMAdapter
from mmsigma.models.tuners.vpt import VPT

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
