"""Run a grid of trainings: ``python tools/grid.py GRID [--devices 0,1] [--jobs N] [--dry-run]``.

Every run has a folder below ``work_dirs/<grid>`` and, when it is finished, a record: a small JSON
file below ``results/<grid>``, from which ``tools/table.py`` makes tables. Started again, a grid
skips runs that have their record and resumes those that have a checkpoint. docs/grids.md.
"""

import argparse
import json
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import report

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.errors import (
    InvalidSettingError,
    MMSigmaError,
    StoppedError,
    UnknownNameError,
    unknown,
)
from mmsigma.experiments import grid, halving, progress, records, slurm
from mmsigma.experiments.jobs import Job
from mmsigma.experiments.live import STATES, Board, Row
from mmsigma.experiments.schedule import Schedule

TRAIN = Path(__file__).parent / 'train.py'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train every run of a grid, and record it.')
    parser.add_argument('grid', help='path of the grid, such as configs/grids/camvid_peft.py')
    parser.add_argument('--records', help='where records go; default results/<grid>')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; work_dirs/<grid>')
    parser.add_argument(
        '--run', action='append', metavar='NAME', help='only this run; may be given several times'
    )
    parser.add_argument('--jobs', type=int, help='runs at once (1), on each of the devices')
    parser.add_argument('--devices', help='GPUs to spread the runs over, such as 0,1,2,3')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='pytorch: each run by torchrun, on all devices; slurm: write a script for sbatch',
    )
    parser.add_argument(
        '--processes', type=int, help='of each run under torchrun; default: one per device'
    )
    parser.add_argument(
        '--sbatch', action='append', default=[], metavar='OPTION', help='--sbatch=--partition=gpu'
    )
    parser.add_argument(
        '--checkpoint-interval', type=int, metavar='N', help='steps between checkpoints'
    )
    parser.add_argument(
        '--until', type=int, metavar='STEP', help='stop each run behind its validation there'
    )
    parser.add_argument(
        '--halve', type=int, metavar='STEP', action='append', default=[],
        help='go on only with the better half of each method, by the validation there; may be '
        'given several times',
    )  # fmt: skip
    parser.add_argument('--dry-run', action='store_true', help='list the runs and their state')
    parser.add_argument(
        '--report', metavar='HTML', help='write the report of tools/report.py when the grid ends'
    )
    parser.add_argument('--markdown', metavar='PAGE', help="and that report's Markdown page")
    args = parser.parse_args()
    for name in ('jobs', 'processes', 'checkpoint_interval', 'until'):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = f'--{name.replace("_", "-")}'
            parser.error(f'{option} must be at least 1; given: {value}')
    if args.processes and args.launcher == 'none':
        parser.error('--processes needs --launcher pytorch, or slurm')
    if (args.report or args.markdown) and args.launcher == 'slurm':
        parser.error('a script for sbatch runs nothing yet: write the report by tools/report.py')
    return args


def main() -> None:
    args = parse_args()
    name = Path(args.grid).stem
    folder, work_dir = folders(args)
    devices = read_devices(args)
    processes = args.processes or (max(1, len(devices)) if args.launcher == 'pytorch' else 1)

    whole, metric = grid.read(args.grid)
    runs = chosen(whole, args.run)
    if args.until:
        halving.check(runs, args.until)
    runs, left = halving.apply(whole, runs, work_dir, metric, args.halve)
    print(*left, sep='\n', end='\n' if left else '')
    states = {run.name: state(run, folder) for run in runs}
    open_runs = [run for run in runs if states[run.name] == 'open']
    failed = {n: text for n, text in states.items() if text not in ('open', 'finished')}
    finished = len(runs) - len(open_runs) - len(failed)
    print(f'{name}: {len(runs)} runs, {finished} finished', flush=True)
    tell(failed)
    if args.dry_run:
        for run in runs:
            print(f'{run.name:<40}{"failed" if run.name in failed else states[run.name]}')
            if run in open_runs and args.launcher == 'pytorch':
                print(f'    {shlex.join(command(run, work_dir / run.name, args, processes))}')
        end('', failed, len(runs), work_dir, '')
        return
    counts, broken = check(open_runs, processes)
    tell(broken)
    states |= broken
    failed |= broken
    stopped = unwritten = ''
    if args.launcher == 'slurm':
        submit(args, name, [r for r in open_runs if r.name not in broken], work_dir, processes)
    else:
        more, stopped = train(args, runs, states, counts, metric, processes)
        failed |= more
    if args.report or args.markdown:
        unwritten = write_report(args, whole, failed)
    end(stopped, failed, len(runs), work_dir, unwritten)


def end(
    stopped: str, failed: Mapping[str, str], total: int, work_dir: Path, unwritten: str
) -> None:
    """Say what is not as it was asked for.

    Raises:
        StoppedError: A signal ended the grid.
        InvalidSettingError: Runs failed, or there is no report.
    """
    texts = [stopped, closing(failed, total, work_dir) if failed else '', unwritten]
    text = '\n'.join(filter(None, texts))
    if text:
        raise (StoppedError if stopped else InvalidSettingError)(text)


def folders(args: argparse.Namespace) -> tuple[Path, Path]:
    """Of records, and of work directories."""
    name = Path(args.grid).stem
    return (
        Path(args.records or Path('results') / name),
        Path(args.work_dir or Path('work_dirs') / name),
    )


def read_devices(args: argparse.Namespace) -> list[str]:
    """The GPUs named, or none.

    Raises:
        InvalidSettingError: One twice, one that the machine does not have, or some for SLURM.
    """
    if not args.devices:
        return []
    import torch

    devices = args.devices.split(',')
    if args.launcher == 'slurm':
        raise InvalidSettingError('--devices is for this machine; SLURM gives each task its own.')
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    known = visible.split(',') if visible else list(map(str, range(torch.cuda.device_count())))
    named = [d for d in devices if not d.startswith(('GPU-', 'MIG-'))]
    if len(set(devices)) < len(devices) or not set(named) <= set(known):
        raise InvalidSettingError(
            f'--devices {args.devices}: name each GPU once; this machine has '
            f'{", ".join(known) or "none"}.'
        )
    return devices


def make_slots(
    devices: Sequence[str], jobs: int, together: bool, processes: int
) -> list[dict[str, str]]:
    """The environment of each run that may go on at once; runs go to all devices in turn."""
    import torch

    if devices:
        groups = [','.join(devices)] if together else list(devices)
        return [{'CUDA_VISIBLE_DEVICES': group} for _ in range(jobs) for group in groups]
    shared = jobs * processes
    if shared == 1 or torch.cuda.is_available() or 'OMP_NUM_THREADS' in os.environ:
        return [{} for _ in range(jobs)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return [{'OMP_NUM_THREADS': str(max(1, (cores or 1) // shared))} for _ in range(jobs)]


def chosen(runs: list[grid.Run], names: Sequence[str] | None) -> list[grid.Run]:
    """The runs of these names, or all.

    Raises:
        UnknownNameError: The grid has no such run.
    """
    known = [run.name for run in runs]
    for name in names or ():
        if name not in known:
            raise UnknownNameError(unknown('run of this grid', name, known))
    return [run for run in runs if not names or run.name in names]


def state(run: grid.Run, folder: Path) -> str:
    """``open``, ``finished``, or what is wrong with the run or with the record of its name."""
    if run.problem:
        return run.problem
    path = folder / f'{run.name}.json'
    if not path.exists():
        return 'open'
    try:
        saved = json.loads(path.read_text())['config']
    except (ValueError, KeyError, TypeError) as error:
        return f'{path} is no record ({type(error).__name__}: {error}); remove it to run it anew'
    if saved != run.hash:
        return (
            f'{path} is the record of another config ({saved}, this is {run.hash}); remove it to '
            'run it anew, or give --records another folder'
        )
    return 'finished'


def check(
    runs: Sequence[grid.Run], processes: int
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Look for the data, and build every model once, before the first run.

    Returns:
        Counts of parameters by model, and by name of a run what is wrong with its model.
    """
    from mmsigma.apis import params

    counts: dict[str, dict[str, float]] = {}
    problems: dict[str, str] = {}
    for run in runs:
        if run.model in counts or run.model in problems:
            continue
        try:
            launch.check_data(run.config, 'train_dataloader', 'val_dataloader', 'test_dataloader')
            if run.config.train_dataloader.batch_size % processes:
                raise InvalidSettingError(
                    f'{processes} processes cannot share a batch of '
                    f'{run.config.train_dataloader.batch_size} evenly'
                )
            counts[run.model] = params.count(run.config)
        except Exception as error:  # whatever it is, it must not come up after hours
            problems[run.model] = grid.describe(error)
    return counts, {run.name: problems[run.model] for run in runs if run.model in problems}


def tell(problems: Mapping[str, str]) -> None:
    """Say at once what will not be run."""
    if problems:
        print(f'Not run:\n{listed(problems)}', file=sys.stderr, flush=True)


def listed(problems: Mapping[str, str]) -> str:
    """A line for each problem, with the names of all runs that have it."""
    names: dict[str, list[str]] = {}
    for name, problem in problems.items():
        names.setdefault(problem, []).append(name)
    return '\n'.join(f'  {", ".join(having)}: {problem}' for problem, having in names.items())


def command(run: grid.Run, work_dir: Path, args: argparse.Namespace, processes: int) -> list[str]:
    """The command line of a run; what it adds to the config is no part of the config's hash."""
    from mmsigma.engine.hooks.atomic_checkpoint import latest

    words = [str(TRAIN), str(work_dir / 'run.py'), '--work-dir', str(work_dir)]
    options = []
    if args.launcher == 'pytorch':
        elastic = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}']
        words = [*elastic, *words, '--launcher', 'pytorch']
        each = run.config.train_dataloader.batch_size // processes  # together, the config's batch
        options.append(f'train_dataloader.batch_size={each}')
    if args.checkpoint_interval:
        options.append(f'default_hooks.checkpoint.interval={args.checkpoint_interval}')
    if latest(work_dir) is not None:
        words.append('--resume')
    return [sys.executable, *words, *(['--cfg-options', *options] if options else [])]


def train(
    args: argparse.Namespace,
    runs: Sequence[grid.Run],
    states: Mapping[str, str],
    counts: Mapping[str, dict[str, float]],
    metric: str,
    processes: int,
) -> tuple[dict[str, str], str]:
    """Train what is open, as many at once as there are slots.

    Returns:
        What failed, and why; and what a signal left open, empty if there was none.
    """
    folder, work_dir = folders(args)
    until = args.until or math.inf
    waiting = [
        run
        for run in runs
        if states[run.name] == 'open'
        and progress.read(work_dir / run.name, metric, run.steps).validated < until
    ]
    rows = {run.name: Row(run.name, run.steps, states[run.name]) for run in runs}
    for row in rows.values():
        if row.state not in STATES:
            row.state, row.note = 'failed', row.state

    def job(run: grid.Run, slot: Mapping[str, str]) -> Job:
        place = work_dir / run.name
        return Job(run, place, partial(command, run, place, args, processes), slot)

    def finish(job: Job) -> str:
        threads = int(job.environment.get('OMP_NUM_THREADS', 0)) or None
        record = records.make(
            job.run, metric, job.work_dir, counts[job.run.model], job.wall, job.resident,
            processes, threads,
        )  # fmt: skip
        write(folder / f'{job.run.name}.json', (json.dumps(record, indent=2) + '\n').encode())
        return summary(record)

    def look(job: Job) -> progress.Progress:
        return progress.read(job.work_dir, metric, job.run.steps)

    slots = make_slots(read_devices(args), args.jobs or 1, args.launcher == 'pytorch', processes)
    with Board(Path(args.grid).stem, metric, list(rows.values())) as board:
        schedule = Schedule(rows, board, slots, job, finish, look, explain)
        schedule.enough = lambda seen: seen.validated >= until
        failed = schedule.run(waiting)
    if not schedule.signals.asked:
        return failed, ''
    left = sum(row.state == 'open' for row in rows.values())
    return failed, (
        f'Stopped by {schedule.signals.asked}; {left} of {len(runs)} runs are open. The same '
        'command goes on where they are.'
    )


def write_report(
    args: argparse.Namespace, runs: Sequence[grid.Run], failed: Mapping[str, str]
) -> str:
    """Write the report of the grid's finished runs; why there is none, or an empty string."""
    folder, work_dir = folders(args)
    done = [run.name for run in runs if state(run, folder) == 'finished']
    words = [str(folder), '--work-dir', str(work_dir)]
    words += ['--out', args.report] if args.report else []
    words += ['--markdown', args.markdown] if args.markdown else []
    if len(done) < len(runs):
        lost = f'; failed: {", ".join(failed)}' if failed else ''
        words += ['--note', f'In here are {len(done)} of the {len(runs)} runs of the grid{lost}.']
    try:
        if not done:
            raise InvalidSettingError('no run is finished')
        found = [json.loads((folder / f'{name}.json').read_text()) for name in done]
        made_by = shlex.join(['python', 'tools/grid.py', *sys.argv[1:]])
        report.make(report.parse_args(words), found, made_by)
    except (MMSigmaError, OSError) as error:
        return f'No report: {explain(error)}'
    return ''


def explain(error: Exception) -> str:
    """What to say of an error of one run."""
    if isinstance(error, OSError) and error.errno in launch.FULL:
        error = launch.disk_full(error)
    return grid.describe(error)


def submit(
    args: argparse.Namespace, name: str, runs: list[grid.Run], work_dir: Path, processes: int
) -> None:
    """Write the script of a SLURM array for these runs, and say how to submit it."""
    if not runs:
        return
    words = [sys.executable, 'tools/grid.py', args.grid]
    words[1] = os.path.relpath(__file__)
    for option in ('records', 'work_dir', 'checkpoint_interval', 'until'):
        value = getattr(args, option)
        if value is not None:
            words += [f'--{option.replace("_", "-")}', str(value)]
    if processes > 1:
        words += ['--launcher', 'pytorch', '--processes', str(processes)]
    names = [run.name for run in runs]
    text = slurm.slurm(
        name, names, words, os.getcwd(), str(work_dir), processes, args.jobs, args.sbatch
    )
    path = work_dir / 'array.sh'
    write(path, text.encode())
    print(f'{len(runs)} tasks: sbatch {shlex.quote(str(path))}')


def summary(record: Mapping[str, Any]) -> str:
    """What came out of a run, in a line."""
    last = {k: v for k, v in record['validation'][-1].items() if k != 'step' and v is not None}
    values = ', '.join(f'{k} {v:g}' for k, v in last.items())
    return f'validation {values}; {record["wall_seconds"]:.0f} s'


def closing(failed: Mapping[str, str], total: int, work_dir: Path) -> str:
    """What failed, why, and how to run it again."""
    given: list[str] = []
    words = iter(sys.argv)
    for word in words:
        if word == '--run':
            next(words, None)
        elif not word.startswith('--run='):
            given.append(word)
    one = shlex.join(['python', *given, '--run', next(iter(failed))])
    return (
        f'{len(failed)} of {total} runs failed:\n{listed(failed)}\nWhat was begun has its output '
        f'in {work_dir}/<run>/output.txt. Run the same command again to repeat them (finished runs '
        'are skipped, begun ones go on; what ended in NaN would again: change its rate), or one '
        f'alone:\n  {one}'
    )


if __name__ == '__main__':
    launch.run(main)
