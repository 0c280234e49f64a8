"""Steps in turns, ratios within a round, peak memory, and reports of what was found."""

import argparse
import ctypes
import gc
import json
import multiprocessing
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from torch import nn
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments.pages import put
from mmsigma.version import __version__

Key = TypeVar('Key')
Row = dict[str, Any]
Step = Callable[[], object]
Command = Callable[[argparse.Namespace, Row], Iterator[str]]

CLOCKS = {'wall': timer, 'cpu': time.process_time}  # PyTorch's waits for what a GPU computes
MIB, GIB, TERA = 2**20, 2**30, 1e12
MCL_CURRENT, MCL_ONFAULT = 1, 4
M_MMAP_THRESHOLD = -3  # of malloc.h
_aten = torch.ops.aten
# PyTorch's own table lacks the form of attention that CPUs have.
_FORMULAS = {
    _aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    ),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, query, key, value, *_, **__: sdpa_backward_flop_count(grad, query, key, value)
    ),
}


def run(command: Command, args: argparse.Namespace) -> None:
    """Run a command: print its tables, and write them where the arguments say.

    Args:
        command: A function of the arguments and of the report to fill, which yields its tables.
        args: Of the command line.

    Raises:
        InvalidSettingError: It needs a GPU, and there is none.
    """
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InvalidSettingError('--device cuda, but PyTorch finds no GPU; use --device cpu.')
    args.threads = args.threads or torch.get_num_threads()
    args.bf16 = args.device == 'cuda' if args.bf16 is None else args.bf16
    torch.set_num_threads(args.threads)
    report: Row = {'header': environment(args)}
    for name, value in report['header'].items():
        print(f'{name}: {value}')
    tables = []
    for text in command(args, report):
        print(f'\n{text}', flush=True)
        tables.append(text)
        if args.json:  # each time: what was measured is there should the rest fail
            write(args.json, (json.dumps(report, indent=2) + '\n').encode())
    if args.write:
        tool = f'tools/analysis_tools/benchmark.py {args.command}'
        put(args.write, tool, '\n\n'.join(tables))


def environment(args: argparse.Namespace) -> Row:
    """What the numbers depend on: arguments, versions and machine."""
    info = Path('/proc/cpuinfo')
    text = info.read_text(encoding='utf-8') if info.exists() else ''
    keys = ('model name', 'cpu family', 'model')
    found = [match[1] for key in keys if (match := re.search(rf'^{key}\s*: (.+)', text, re.M))]
    processor = platform.processor() or platform.machine()
    if len(found) == len(keys):
        processor = '{} (family {}, model {})'.format(*found)
    return {
        **vars(args),
        'mmsigma': __version__,
        'torch': torch.__version__,
        'timm': timm.__version__,
        'cpu': processor,
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'device': torch.cuda.get_device_name() if args.device == 'cuda' else 'cpu',
        'dtype': 'float32, bfloat16 autocast' if args.bf16 or args.amp else 'float32',
    }


def in_turns(
    steps: Mapping[Key, Step],
    args: argparse.Namespace,
    reset: Callable[[Key], object] = lambda name: None,
    clock: Callable[[], float] | None = None,
) -> dict[Key, Row]:
    """Time steps in turns, forwards and backwards by round.

    Args:
        steps: What to time, by name.
        args: With the number of rounds and the clock.
        reset: Called with the name before and behind each step, and not timed.
        clock: Another than the arguments', in seconds.

    Returns:
        By name ``seconds``, the median; ``all_seconds`` of each round; and ``first_seconds``, those
        of a round before, to warm up.
    """
    clock = clock or CLOCKS[args.clock]
    taken: dict[Key, list[float]] = {name: [] for name in steps}
    for turn in range(-1, args.repeats):
        for name in steps if turn % 2 == 0 else reversed(steps):
            reset(name)
            timer()  # nothing of the step before still runs
            start = clock()
            steps[name]()
            taken[name].append(clock() - start)
            reset(name)
        say(f'round {turn + 1} of {args.repeats}')
    return {
        name: {'seconds': statistics.median(rest), 'all_seconds': rest, 'first_seconds': first}
        for name, (first, *rest) in taken.items()
    }


def ratio(row: Row, reference: Row | None) -> float | None:
    """The median of the ratios within a round, or None without a reference."""
    if reference is None:
        return None
    pairs = zip(row['all_seconds'], reference['all_seconds'], strict=True)
    return statistics.median(a / b for a, b in pairs)


def peak_memory(build: Callable[[], Step], args: argparse.Namespace, steps: int = 1) -> int | None:
    """Peak bytes that steps take on top of what ``build`` makes, or None without Linux or a GPU.

    On a CPU a fresh process finds it: call this before anything is computed, for what forks must
    not have started threads of its own.

    Args:
        build: Makes a step; it can be pickled.
        args: With the device and the number of threads.
        steps: 2 where the first step leaves what counts, as an optimiser does.
    """
    if args.device == 'cuda':
        step = build()
        before = torch.cuda.memory_allocated()
        step()  # which has workspaces of its own
        left = torch.cuda.memory_allocated() - before if steps > 1 else 0
        return left + allocated(step)
    if not Path('/proc/self/clear_refs').exists():
        return None
    fork = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(1, fork, torch.set_num_threads, (args.threads,)) as pool:
        return pool.submit(_growth, build, steps).result()


def allocated(step: Step) -> int:
    """Bytes on a GPU that a step takes, at most, on top of what is there before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


def _growth(build: Callable[[], Step], steps: int) -> int:
    """Bytes by which the resident set of this fresh process grows, at most, while steps run."""
    gc.freeze()  # what was there before is not looked at, nor copied for that
    step = build()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), 'mallopt'):
        # glibc keeps freed memory or gives it back as chance has it, so that equal steps differed
        # by 300 MiB. From now on each tensor above 64 KiB has pages of its own.
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    if hasattr(libc, 'mlockall'):  # or the machine may take back what is not in use, meanwhile
        libc.mlockall(MCL_CURRENT | MCL_ONFAULT)
    # The peak of before may be above what is in memory now, and would hide what the steps take.
    Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')
    before = _resident('VmRSS')
    for _ in range(steps):
        step()
    return _resident('VmHWM') - before


def _resident(name: str) -> int:
    """Bytes in memory now (``VmRSS``) or at most so far (``VmHWM``), as Linux counts them."""
    text = Path('/proc/self/status').read_text(encoding='utf-8')
    return 1024 * int(text.partition(f'{name}:')[2].split()[0])


def operations() -> FlopCounterMode:
    """A context that counts multiplications and additions."""
    return FlopCounterMode(display=False, custom_mapping=_FORMULAS)


def parameters(module: nn.Module) -> int:
    """How many parameters train."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def table(title: str, columns: Mapping[str, tuple[Any, str]], rows: Mapping[Any, Row]) -> str:
    """Rows as Markdown.

    Args:
        title: Of the first column, the rows' names; or of several, as ``'a | b'``.
        columns: By title: what of a row stands there, and how it is formatted.
        rows: By name; what is None or missing in one leaves its cell empty.
    """
    names = ' | '.join(['---'] * (1 + title.count(' | ')))
    lines = [[title, *columns], [names, *['--:'] * len(columns)]]
    for name, row in rows.items():
        found = [(row.get(key), form) for key, form in columns.values()]
        lines.append([str(name), *('' if v is None else f'{v:{form}}' for v, form in found)])
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def say(message: str) -> None:
    """Progress, apart from the results."""
    print(message, file=sys.stderr, flush=True)
