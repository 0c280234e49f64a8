"""Run a grid of trainings: ``python tools/grid.py GRID [--records DIR] [--jobs N] [--dry-run]``.

Every run has a folder below ``work_dirs/<grid>`` and, when it is finished, a record: a small JSON
file below ``results/<grid>``, from which ``tools/table.py`` makes tables. Started again, a grid
skips runs that have their record and resumes those that have a checkpoint.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from mmsigma import launch
from mmsigma.analysis import grid, params, records
from mmsigma.errors import InvalidSettingError
from mmsigma.files import write
from mmsigma.hooks.atomic_checkpoint import latest

TRAIN = Path(__file__).parent / 'train.py'
TRIES = 2


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train every run of a grid, and record it.')
    parser.add_argument('grid', help='path of the grid, such as configs/grids/camvid_peft.py')
    parser.add_argument('--records', help='where records go; default results/<grid>')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; work_dirs/<grid>')
    parser.add_argument('--jobs', type=int, default=1, help='runs at once')
    parser.add_argument('--dry-run', action='store_true', help='list the runs and their state')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    name = Path(args.grid).stem
    folder = Path(args.records or Path('results') / name)
    work_dir = Path(args.work_dir or Path('work_dirs') / name)
    if args.jobs < 1:
        raise InvalidSettingError(f'--jobs must be at least 1; given: {args.jobs}.')

    runs, metric = grid.read(args.grid)
    open_runs = [run for run in runs if not recorded(run, folder)]
    say(f'{name}: {len(runs)} runs, {len(runs) - len(open_runs)} finished')
    if args.dry_run:
        for run in runs:
            say(f'{run.name:<40}{"open" if run in open_runs else "finished"}')
        return
    counts = check(open_runs)
    failed = []
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = {
            pool.submit(train, run, metric, work_dir / run.name, folder, counts[run.method]): run
            for run in open_runs
        }
        for done, future in enumerate(as_completed(waiting), 1):
            run, problem = waiting[future], future.result()
            say(f'[{done}/{len(open_runs)}] {run.name}: {problem or summary(run, folder)}')
            if problem:
                failed.append(run.name)
    if failed:
        raise InvalidSettingError(
            f'{len(failed)} of {len(open_runs)} runs failed: {", ".join(failed)}. Each has its '
            f'output in {work_dir}/<run>/output.txt. Run the same command again to repeat them; '
            'finished runs are skipped.'
        )


def recorded(run: grid.Run, folder: Path) -> bool:
    """Whether the run has its record.

    Raises:
        InvalidSettingError: It has one of another config.
    """
    path = folder / f'{run.name}.json'
    if not path.exists():
        return False
    saved = json.loads(path.read_text())['config']
    if saved != run.hash:
        raise InvalidSettingError(
            f'{path} is the record of another config ({saved}, this is {run.hash}). Remove the '
            'record to run it anew, or give --records another folder.'
        )
    return True


def check(runs: list[grid.Run]) -> dict[str, dict[str, float]]:
    """Look for the data, and build every method once, before the first run.

    Raises:
        InvalidSettingError: Some do not build; all of them are named.
    """
    counts: dict[str, dict[str, float]] = {}
    problems: dict[str, str] = {}
    for run in runs:
        if run.method in counts or run.method in problems:
            continue
        try:
            launch.check_data(run.config, 'train_dataloader', 'val_dataloader', 'test_dataloader')
            counts[run.method] = params.count(run.config)
        except Exception as error:  # whatever it is, it must not come up after hours
            problems[run.method] = f'{type(error).__name__}: {error}'
    if problems:
        listed = '\n'.join(f'  {method}: {text}' for method, text in problems.items())
        raise InvalidSettingError(f'Nothing was run, for these do not build:\n{listed}')
    return counts


def train(
    run: grid.Run, metric: str, work_dir: Path, folder: Path, counts: dict[str, float]
) -> str | None:
    """Train one run, twice if it breaks off, and write its record; a problem, or None."""
    config = work_dir / 'run.py'
    write(config, run.config.pretty_text.encode())
    clock = work_dir / 'wall_seconds'
    wall = float(clock.read_text()) if clock.exists() else 0.0
    resident: int | None = None
    for _ in range(TRIES):
        command = [sys.executable, str(TRAIN), str(config), '--work-dir', str(work_dir)]
        if latest(work_dir) is not None:
            command.append('--resume')
        start = time.monotonic()
        with (work_dir / 'output.txt').open('ab') as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            status, peak = wait(process)
        wall += time.monotonic() - start
        write(clock, f'{wall:.1f}'.encode())
        resident = peak if resident is None or peak is None else max(resident, peak)
        if status == 0:
            record = records.make(run, metric, work_dir, counts, wall, resident)
            write(folder / f'{run.name}.json', (json.dumps(record, indent=2) + '\n').encode())
            return None
    last = (work_dir / 'output.txt').read_text(errors='replace').strip().splitlines()[-1:]
    return f'failed with exit status {status}: {" ".join(last)[:300]}'


def wait(process: subprocess.Popen) -> tuple[int, int | None]:
    """Exit status and, where the system tells, peak resident bytes of a process."""
    if not hasattr(os, 'wait4') or sys.platform != 'linux':  # elsewhere the unit is another
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024


def summary(run: grid.Run, folder: Path) -> str:
    """What came out of a run, in a line."""
    record: dict[str, Any] = json.loads((folder / f'{run.name}.json').read_text())
    last = record['validation'][-1] if record['validation'] else {}
    values = ', '.join(f'{k} {v:g}' for k, v in last.items() if k != 'step')
    return f'validation {values}; {record["wall_seconds"]:.0f} s'


def say(message: str) -> None:
    """A line of progress."""
    print(message, flush=True)


if __name__ == '__main__':
    launch.run(main)
