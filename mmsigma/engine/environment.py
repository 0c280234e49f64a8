"""The code, the packages and the hardware that something is measured with."""

import platform
import subprocess
from pathlib import Path
from typing import Any

from mmsigma.dependencies import REQUIREMENTS, installed
from mmsigma.version import __version__

# Import name -> names of the distribution, of what a record tells the version where it is there.
_PACKAGES = {
    **{name: distributions for name, (distributions, _, _) in REQUIREMENTS.items()},
    'numpy': ('numpy',),
    'peft': ('peft',),
}


def commit() -> str | None:
    """Of this code, with a + where files differ from it; None outside a repository."""
    try:
        git = subprocess.run(
            ['git', 'describe', '--always', '--dirty=+'],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:  # no git
        return None
    return git.stdout.strip() or None


def environment(threads: int | None = None) -> dict[str, Any]:
    """Versions and hardware; on a CPU the threads, this process's unless given."""
    import mmengine
    import torch
    from mmengine.device import get_device

    found = {name: installed(distributions) for name, distributions in _PACKAGES.items()}
    on_gpu = get_device() == 'cuda'
    return {
        'versions': {
            'mmsigma': __version__,
            'python': platform.python_version(),
            **{name: text for name, text in found.items() if text},
            'torch': torch.__version__,  # which also tells the CUDA version
            'mmengine': mmengine.__version__,
        },
        'device': torch.cuda.get_device_name() if on_gpu else _processor(),
        'threads': None if on_gpu else threads or torch.get_num_threads(),
    }


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
