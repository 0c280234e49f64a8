"""A grid as an array of SLURM jobs: one task per run."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """#!/usr/bin/env bash
# One task per run. Submitted again, it skips what is finished and goes on with the rest.
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={log}/slurm-%A_%a.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
{options}

set -euo pipefail
cd {folder}
runs=(
{runs}
)
# The process that gets the signals is the grid's: it lets the run save its last step.
exec {command} --run "${{runs[$SLURM_ARRAY_TASK_ID]}}"
"""


def script(
    name: str, runs: Sequence[str], command: Sequence[str], log: Path, options: Sequence[str]
) -> str:
    """The text of a SLURM array script, to be run in the current folder.

    A job that is preempted is requeued, and one near its time limit gets SIGTERM two minutes
    before; either way the run in it saves its last step.

    Args:
        name: Of the jobs.
        runs: Names of the runs, in order.
        command: ``tools/grid.py`` with all its arguments, except for the run's name.
        log: Folder of the outputs.
        options: Further options of sbatch; they win.
    """
    return _SCRIPT.format(
        name=name,
        last=len(runs) - 1,
        log=log,
        options='\n'.join(f'#SBATCH {option}' for option in options),
        folder=shlex.quote(os.getcwd()),
        runs='\n'.join(f'  {shlex.quote(run)}' for run in runs),
        command=shlex.join(command),
    )
