"""The GPUs of a grid, and how many runs go on at once on which of them."""

import os
from collections.abc import Sequence

from mmsigma.errors import InvalidSettingError


def read(text: str | None, launcher: str) -> list[str]:
    """The GPUs that a text such as ``0,1`` names, or none.

    Raises:
        InvalidSettingError: One twice, one that the machine does not have, or some for SLURM.
    """
    if not text:
        return []
    import torch

    if launcher == 'slurm':
        raise InvalidSettingError('--devices is for this machine; SLURM gives each task its own.')
    devices = text.split(',')
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    known = visible.split(',') if visible else list(map(str, range(torch.cuda.device_count())))
    named = {device for device in devices if not device.startswith(('GPU-', 'MIG-'))}
    if len(set(devices)) < len(devices) or not named <= set(known):
        raise InvalidSettingError(
            f'--devices {text}: name each GPU once; this machine has {", ".join(known) or "none"}.'
        )
    return devices


def slots(groups: Sequence[str], jobs: int, processes: int) -> list[dict[str, str]]:
    """The environment of each run that may go on at once; runs go to all groups in turn.

    Args:
        groups: GPUs of a run, such as ``0,1``; none for a CPU, or for the one that PyTorch takes.
        jobs: Runs at once, on each of the groups.
        processes: Of a run.
    """
    import torch

    if groups:
        return [{'CUDA_VISIBLE_DEVICES': group} for _ in range(jobs) for group in groups]
    shared = jobs * processes
    if shared == 1 or torch.cuda.is_available() or 'OMP_NUM_THREADS' in os.environ:
        return [{} for _ in range(jobs)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return [{'OMP_NUM_THREADS': str(max(1, (cores or 1) // shared))} for _ in range(jobs)]
