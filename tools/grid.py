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
from pathlib import Path

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.errors import (
    InvalidSettingError,
    MMSigmaError,
    StoppedError,
    UnknownNameError,
    unknown,
)
from mmsigma.experiments import devices, grid, halving, logs, records, slurm

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
        '--markdown', metavar='PAGE', help='write the report of tools/report.py when the grid ends'
    )
    args = parser.parse_args()
    for name in ('jobs', 'processes', 'checkpoint_interval', 'until'):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = f'--{name.replace("_", "-")}'
            parser.error(f'{option} must be at least 1; given: {value}')
    if args.processes and args.launcher == 'none':
        parser.error('--processes needs --launcher pytorch, or slurm')
    if args.markdown and args.launcher == 'slurm':
        parser.error('a script for sbatch runs nothing yet: write the report by tools/report.py')
    args.name = Path(args.grid).stem
    args.records = Path(args.records or Path('results') / args.name)
    args.work_dir = Path(args.work_dir or Path('work_dirs') / args.name)
    return args


def main() -> None:
    args = parse_args()
    gpus = devices.read(args.devices, args.launcher)
    together = args.launcher == 'pytorch'
    args.processes = args.processes or (len(gpus) if together else 0) or 1
    args.groups = [','.join(gpus)] if gpus and together else gpus

    whole, metric = grid.read(args.grid)
    runs = chosen(whole, args.run)
    if args.until:
        halving.check(runs, args.until)
    runs, left = halving.apply(whole, runs, args.work_dir, metric, args.halve)
    print(*left, sep='\n', end='\n' if left else '')
    states = {run.name: records.state(run, args.records) for run in runs}
    failed = {n: text for n, text in states.items() if text not in ('open', 'finished')}
    open_runs = [run for run in runs if states[run.name] == 'open']
    finished = len(runs) - len(open_runs) - len(failed)
    print(f'{args.name}: {len(runs)} runs, {finished} finished', flush=True)
    tell(failed)
    stopped = unwritten = ''
    if args.dry_run:
        for run in runs:
            print(f'{run.name:<40}{"failed" if run.name in failed else states[run.name]}')
            if run in open_runs and together:
                print(f'    {shlex.join(command(run, args.work_dir / run.name, args))}')
    else:
        counts, broken = check(open_runs, args.processes)
        tell(broken)
        failed |= broken
        open_runs = [run for run in open_runs if run.name not in broken]
        if args.launcher == 'slurm':
            submit(args, open_runs)
        else:
            stopped = train(args, open_runs, len(runs), counts, metric, failed)
        if args.markdown:
            unwritten = write_report(args, whole, failed)
    texts = [stopped, closing(failed, len(runs), args.work_dir) if failed else '', unwritten]
    text = '\n'.join(filter(None, texts))
    if text:
        raise (StoppedError if stopped else InvalidSettingError)(text)


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


def command(run: grid.Run, work_dir: Path, args: argparse.Namespace) -> list[str]:
    """The command line of a run; what it adds to the config is no part of the config's hash."""
    from mmsigma.engine.hooks.atomic_checkpoint import latest

    words = [str(TRAIN), str(work_dir / 'run.py'), '--work-dir', str(work_dir)]
    options = []
    for name in ('val_evaluator', 'test_evaluator'):
        if str((run.config.get(name) or {}).get('type')).removeprefix('mmseg.') == 'IoUMetric':
            options.append(f'{name}.type=mmsigma.IoUMetric')  # the same, and the scores by class
    if args.launcher == 'pytorch':
        elastic = ['-m', 'torch.distributed.run', '--standalone']
        words = [*elastic, f'--nproc-per-node={args.processes}', *words, '--launcher', 'pytorch']
        each = run.config.train_dataloader.batch_size // args.processes  # together, the batch
        options.append(f'train_dataloader.batch_size={each}')
    if args.checkpoint_interval:
        options.append(f'default_hooks.checkpoint.interval={args.checkpoint_interval}')
    if latest(work_dir) is not None:
        words.append('--resume')
    return [sys.executable, *words, *(['--cfg-options', *options] if options else [])]


def train(
    args: argparse.Namespace,
    runs: Sequence[grid.Run],
    total: int,
    counts: Mapping[str, dict[str, float]],
    metric: str,
    failed: dict[str, str],
) -> str:
    """Train what is open, as many at once as there are slots; ``failed`` gets what fails.

    Returns:
        What a signal left open, empty if there was none.
    """
    # Here, not in the threads of runs: a fork would keep the lock of what another one imports.
    import mmsigma.engine.hooks.atomic_checkpoint  # noqa: F401
    from mmsigma.experiments.live import Board
    from mmsigma.experiments.schedule import Schedule

    far = {run.name: logs.progress(args.work_dir / run.name, metric).validated for run in runs}
    with Board(args.name, total, total - len(runs)) as board:
        schedule = Schedule(
            args.records,
            args.work_dir,
            metric,
            counts,
            lambda run, place: command(run, place, args),
            board,
            devices.slots(args.groups, args.jobs or 1, args.processes),
            args.processes,
            args.until or math.inf,
        )
        schedule.run([run for run in runs if far[run.name] < schedule.until])
    failed |= schedule.failed
    if not schedule.asked:
        return ''
    left = sum(schedule.states.get(run.name, 'open') == 'open' for run in runs)
    return (
        f'Stopped by {schedule.asked[0]}; {left} of {total} runs are open. The same command goes '
        'on where they are.'
    )


def write_report(
    args: argparse.Namespace, runs: Sequence[grid.Run], failed: Mapping[str, str]
) -> str:
    """Write the report of the grid's finished runs; why there is none, or an empty string."""
    import report

    done = [run.name for run in runs if records.state(run, args.records) == 'finished']
    words = [str(args.records), '--markdown', args.markdown]
    if len(done) < len(runs):
        lost = f'; failed: {", ".join(failed)}' if failed else ''
        words += ['--note', f'In here are {len(done)} of the {len(runs)} runs of the grid{lost}.']
    try:
        if not done:
            raise InvalidSettingError('no run is finished')
        found = [json.loads((args.records / f'{name}.json').read_text()) for name in done]
        made_by = shlex.join(['python', 'tools/grid.py', *sys.argv[1:]])
        report.make(report.parse_args(words), found, made_by)
    except (MMSigmaError, OSError) as error:
        return f'No report: {grid.describe(error)}'
    return ''


def submit(args: argparse.Namespace, runs: Sequence[grid.Run]) -> None:
    """Write the script of a SLURM array for these runs, and say how to submit it."""
    if not runs:
        return
    words = [sys.executable, os.path.relpath(__file__), args.grid]
    for option in ('records', 'work_dir', 'checkpoint_interval', 'until'):
        value = getattr(args, option)
        if value is not None:
            words += [f'--{option.replace("_", "-")}', str(value)]
    if args.processes > 1:
        words += ['--launcher', 'pytorch', '--processes', str(args.processes)]
    limit = [f'--array=0-{len(runs) - 1}%{args.jobs}'] if args.jobs else []
    options = [f'--gpus-per-node={args.processes}', *limit, *args.sbatch]
    path = args.work_dir / 'array.sh'
    text = slurm.script(args.name, [run.name for run in runs], words, args.work_dir, options)
    write(path, text.encode())
    print(f'{len(runs)} tasks: sbatch {shlex.quote(str(path))}')


def closing(failed: Mapping[str, str], total: int, work_dir: Path) -> str:
    """What failed, why, and how to run it again."""
    pairs = zip(['', *sys.argv], sys.argv, strict=False)
    given = [word for last, word in pairs if '--run' not in (last, word.partition('=')[0])]
    one = shlex.join(['python', *given, '--run', next(iter(failed))])
    return (
        f'{len(failed)} of {total} runs failed:\n{listed(failed)}\nWhat was begun has its output '
        f'in {work_dir}/<run>/output.txt. Run the same command again to repeat them (finished runs '
        'are skipped, begun ones go on; what ended in NaN would again: change its rate), or one '
        f'alone:\n  {one}'
    )


if __name__ == '__main__':
    launch.run(main)
