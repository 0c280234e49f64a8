"""Triton kernels where there is no GPU; on one, ``test_numerics.py`` runs them as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmsigma.models.ops import fused
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.sigma import SIGMA, SIGMAAdapter

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_in_the_interpreter() -> None:
    pytest.importorskip('triton')
    command = [sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider']
    done = subprocess.run(
        [*command, 'tests/models/ops/interpreted.py'],
        cwd=ROOT,
        env={**os.environ, 'TRITON_INTERPRET': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'passed' in done.stdout and 'skipped' not in done.stdout


def test_a_cpu_runs_plain_pytorch() -> None:
    adapter = SIGMAAdapter(24, 16, False, SIGMA(bottleneck=16))
    assert not fused.fuses(adapter.fusion, adapter.modulation, torch.randn(1, 6, 16))
    assert 'mmsigma.models.ops.sigma_op' not in sys.modules  # nor does it import Triton
    adapter(torch.randn(1, 6, 24), TokenLayout(2, 3))
    assert 'mmsigma.models.ops.sigma_op' not in sys.modules
