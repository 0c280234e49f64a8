"""A grid as an array of SLURM jobs: one task per run."""

import shlex
from collections.abc import Sequence

_SCRIPT = """#!/usr/bin/env bash
# One task per run. Submitted again, it skips what is finished and goes on with the rest.
{options}

set -euo pipefail
cd {folder}
runs=(
{runs}
)
# The process that gets the signals is the grid's: it lets the run save its last step.
exec {command} --run "${{runs[$SLURM_ARRAY_TASK_ID]}}"
"""


def slurm(
    name: str,
    runs: Sequence[str],
    command: Sequence[str],
    folder: str,
    log: str,
    gpus: int,
    at_once: int | None,
    options: Sequence[str],
) -> str:
    """The text of a SLURM array script.

    A job that is preempted is requeued, and one near its time limit gets SIGTERM two minutes
    before; either way the run in it saves its last step.

    Args:
        name: Of the jobs.
        runs: Names of the runs, in order.
        command: ``tools/grid.py`` with all its arguments, except for the run's name.
        folder: Where to run it.
        log: Folder of the outputs.
        gpus: Of each run.
        at_once: Tasks that may run at once; None for as many as the cluster lets.
        options: Further options of sbatch; they win.
    """
    limit = f'%{at_once}' if at_once else ''
    lines = [
        f'--job-name={name}',
        f'--array=0-{len(runs) - 1}{limit}',
        f'--output={log}/slurm-%A_%a.txt',
        '--open-mode=append',
        '--requeue',
        '--signal=B:TERM@120',
        f'--gpus-per-node={gpus}',
        *options,
    ]
    return _SCRIPT.format(
        options='\n'.join(f'#SBATCH {line}' for line in lines),
        folder=shlex.quote(folder),
        runs='\n'.join(f'  {shlex.quote(run)}' for run in runs),
        command=shlex.join(command),
    )
