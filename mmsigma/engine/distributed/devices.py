"""What the processes of a job compute on."""

import os
from collections.abc import Sequence

import torch
from mmengine.device import get_device

from mmsigma.errors import LaunchError

MIXED = 'MMSIGMA_MIXED_DEVICES'


def device_name() -> str:
    """This process's device and PyTorch."""
    name = torch.cuda.get_device_name() if get_device() == 'cuda' else get_device()
    return f'{name} with PyTorch {torch.__version__}'


def check_devices(names: Sequence[str], backends: Sequence[str] = ()) -> None:
    """Check that all processes compute on the same kind of device.

    Different kinds wait for the slowest, may round differently, and need not all have the memory;
    MMSIGMA_MIXED_DEVICES=1 lets them pass. Different backends, as of a GPU and a CPU, never do.

    Args:
        names: Of each process's device, by rank.
        backends: Through which each process sends, by rank.

    Raises:
        LaunchError: They differ.
    """
    if len(set(backends)) > 1:
        both = [f'{name} ({how})' for name, how in zip(names, backends, strict=True)]
        raise LaunchError(
            f'The processes of this job cannot send each other anything ({_listed(both)}). Where '
            'PyTorch finds no GPU it takes the CPU: repair that machine (nvidia-smi, the driver, '
            'CUDA_VISIBLE_DEVICES) or leave it out; to train on CPUs, set CUDA_VISIBLE_DEVICES= '
            'on all.'
        )
    if len(set(names)) > 1 and os.environ.get(MIXED) != '1':
        raise LaunchError(
            f'The processes of this job differ in their devices ({_listed(names)}). Take machines '
            f'of one kind with one environment, or set {MIXED}=1 on all of them if this is meant: '
            'every step then takes as long as on the slowest.'
        )


def _listed(kinds: Sequence[str]) -> str:
    """Each kind with its processes, at most eight of them."""
    parts = []
    for kind in dict.fromkeys(kinds):
        ranks = [str(rank) for rank, other in enumerate(kinds) if other == kind]
        more = f', ... ({len(ranks)} in all)' if len(ranks) > 8 else ''
        parts.append(f'{kind}: process {", ".join(ranks[:8])}{more}')
    return '; '.join(parts)
