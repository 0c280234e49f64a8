"""Time, memory and parameters of tuners, forward and backward, without any head.

    python tools/bench.py [--device cuda] [--shapes MODEL:HEIGHTxWIDTH:BATCH ...] [--tuners]

Weights are random: neither time nor memory depends on them. A step is one forward pass, the sum
over the maps of their mean squares as the loss, and one backward pass; no optimiser.

- Variants run in turns, forwards and backwards by round, so that what slows the machine down for a
  while slows all of them. Seconds are medians over rounds; a ratio is the median of the ratios
  within a round.
- Peak memory is what a step takes on top of the model: on a CPU the growth of the resident set
  during the first step of a fresh process, on a GPU of the allocated bytes during a later one.
"""

import argparse
import ctypes
import gc
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmsigma.backbone import AdaptedBackbone
from mmsigma.version import __version__

Variants = Mapping[str, Mapping[str, Any]]
VARIANTS: Variants = {
    'full': dict(type='Full'),
    'frozen forward': dict(type='Frozen'),
    'bias only': dict(type='BitFit'),
    'Mona plain': dict(type='Mona', form='plain'),
    'Mona fast': dict(type='Mona', form='fast'),
    'SIGMA plain': dict(type='SIGMA', form='plain'),
    'SIGMA fast': dict(type='SIGMA', form='fast'),
}
ROLES = {'Full': 'ceiling', 'BitFit': 'floor', 'Frozen': 'no gradient'}
TRAIN_TRUNKS = ('Full', 'Partial', 'BitFit', 'NormTuning')  # parameters of the trunk itself
TUNERS = Path(__file__).parents[1] / 'configs/_base_/tuners'
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
M_MMAP_THRESHOLD = -3  # of malloc.h
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A trunk and an input ``(batch, 3, height, width)``, in pixels."""

    model: str
    height: int
    width: int
    batch: int
    model_args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> 'Case':
        """The case that ``MODEL:HEIGHTxWIDTH:BATCH`` names."""
        try:
            model, size, batch = text.split(':')
            height, width = size.split('x')
            return cls(model, int(height), int(width), int(batch))
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f'{text!r} is no MODEL:HEIGHTxWIDTH:BATCH, such as '
                'vit_small_patch14_dinov2:224x308:4'
            ) from error

    def __str__(self) -> str:
        return f'{self.model}, {self.height}x{self.width}, batch {self.batch}'


SMALL, BASE = 'vit_small_patch14_dinov2', 'vit_base_patch16_siglip_512'
CASES = {
    'cpu': [Case(SMALL, 224, 308, 4), Case(BASE, 512, 512, 1)],
    'cuda': [Case(SMALL, 224, 308, 16), Case(BASE, 512, 512, 8)],
}
QUICK = [Case('vit_tiny_patch16_224', 32, 48, 2, dict(depth=2, embed_dim=64, num_heads=2))]


def every_tuner() -> dict[str, dict[str, Any]]:
    """Each tuner's base config, by its name."""
    return {path.stem: Config.fromfile(path).tuner for path in sorted(TUNERS.glob('*.py'))}


def with_role(variants: Variants, role: str) -> str:
    """The variant that is the ceiling, the floor, or has no gradient."""
    return next(name for name, tuner in variants.items() if ROLES.get(tuner['type']) == role)


def build(case: Case, tuner: Mapping[str, Any], device: str) -> tuple[nn.Module, Tensor]:
    """A backbone in training mode with random weights, and images for it."""
    torch.manual_seed(0)
    trunk = dict(
        type='TimmViT', model_name=case.model, weights='random', model_args=case.model_args
    )
    with torch.device(device):  # where random weights of large trunks are made faster
        model = AdaptedBackbone(trunk=trunk, tuner=tuner)
    model = model.to(device).train()
    for parameter in model.adapters.parameters():
        if not parameter.any():  # as after some training: nothing is multiplied by zero
            nn.init.normal_(parameter, std=0.02)
    return model, torch.randn(case.batch, 3, case.height, case.width, device=device)


def step(model: nn.Module, images: Tensor, gradient: bool, low: bool) -> None:
    """One forward and, unless it is switched off, one backward pass."""
    device = images.device.type
    with (
        nullcontext() if gradient else torch.no_grad(),
        torch.autocast(device, torch.bfloat16, enabled=low),
    ):
        loss = sum(m.float().square().mean() for m in model(images))
    if gradient:
        loss.backward()
    synchronize(device)


def synchronize(device: str) -> None:
    """Wait for what an accelerator still computes."""
    if device == 'cuda':
        torch.cuda.synchronize()


def timed_step(
    model: nn.Module, images: Tensor, gradient: bool, low: bool, clock: str = 'wall'
) -> float:
    """Seconds of one step that starts without gradients."""
    model.zero_grad(set_to_none=True)
    start = CLOCKS[clock]()
    step(model, images, gradient, low)
    seconds = CLOCKS[clock]() - start
    model.zero_grad(set_to_none=True)
    return seconds


def measure_time(
    case: Case,
    device: str,
    repeats: int,
    low: bool = False,
    clock: str = 'wall',
    variants: Variants = VARIANTS,
) -> dict[str, list[float]]:
    """Seconds of a step, per variant and round."""
    names = list(variants)
    built = {name: build(case, tuner, device) for name, tuner in variants.items()}
    still = with_role(variants, 'no gradient')
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, repeats):  # the first is for warming up
        for name in names if turn % 2 == 0 else reversed(names):
            taken = timed_step(*built[name], gradient=name != still, low=low, clock=clock)
            if turn >= 0:
                seconds[name].append(taken)
        say(f'{case}: round {turn + 1} of {repeats}')
    return seconds


def measure_memory(case: Case, tuner: Mapping[str, Any], device: str, low: bool) -> int:
    """Peak bytes that a step takes on top of the model."""
    model, images = build(case, tuner, device)
    gradient = ROLES.get(tuner['type']) != 'no gradient'
    if device == 'cuda':
        timed_step(model, images, gradient, low)  # workspaces are there from now on
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        timed_step(model, images, gradient, low)
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    return growth(lambda: step(model, images, gradient, low))


def growth(run: Callable[[], None]) -> int:
    """Bytes by which the resident set of a fresh process grows, at most, while ``run`` runs."""
    if hasattr(libc := ctypes.CDLL(None), 'mallopt'):
        # glibc keeps freed memory or gives it back as chance has it, so that equal steps differed
        # by 300 MiB. From now on each tensor above 64 KiB has pages of its own.
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    before = _resident('VmRSS')
    run()
    return _resident('VmHWM') - before


def _resident(name: str) -> int:
    """Bytes in memory now (``VmRSS``) or at most so far (``VmHWM``), as Linux counts them."""
    for line in Path('/proc/self/status').read_text(encoding='utf-8').splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f'/proc/self/status has no {name}')


def peak_memory(
    case: Case, device: str, threads: int, low: bool, variants: Variants
) -> dict[str, int | None]:
    """Peak bytes per variant; on a CPU one fresh process each, or None where Linux does not run.

    Call it before anything is computed: what forks must not have started threads of its own.
    """
    if device == 'cuda':
        return {name: measure_memory(case, tuner, device, low) for name, tuner in variants.items()}
    peaks = {}
    for name, tuner in variants.items():
        peaks[name] = in_process(measure_memory, threads, case, tuner, device, low)
        say(f'{case}: memory of {name}')
    return peaks


def in_process(measure: Callable[..., int], threads: int, *arguments: Any) -> int | None:
    """What ``measure`` returns in a fresh process, or None where Linux does not run."""
    if not Path('/proc/self/status').exists():
        return None
    fork = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(1, fork, torch.set_num_threads, (threads,)) as pool:
        return pool.submit(measure, *arguments).result()


def trainable(case: Case, variants: Variants) -> dict[str, int]:
    """Trained parameters per variant, without neck and head."""
    counts = {}
    for name, tuner in variants.items():
        model, _ = build(case, tuner, 'cpu')
        counts[name] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return counts


def bench(
    case: Case,
    device: str,
    repeats: int,
    low: bool,
    clock: str,
    peaks: Mapping[str, int | None],
    variants: Variants,
) -> dict[str, Any]:
    """All measurements of one case; ``peaks`` from :func:`peak_memory`."""
    seconds = measure_time(case, device, repeats, low, clock, variants)
    counts = trainable(case, variants)
    ceiling, floor = with_role(variants, 'ceiling'), with_role(variants, 'floor')
    return {
        'case': asdict(case),
        'variants': {
            name: {
                'seconds': statistics.median(taken),
                'ratio_to_full': _ratio(taken, seconds[ceiling]),
                'ratio_to_floor': _ratio(taken, seconds[floor]),
                'peak_memory_mib': None if peaks[name] is None else peaks[name] / MIB,
                'trained_parameters': counts[name],
                'all_seconds': taken,
            }
            for name, taken in seconds.items()
        },
    }


def _ratio(taken: list[float], reference: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(taken, reference, strict=True))


def header(device: str, threads: int, repeats: int, low: bool, clock: str) -> dict[str, Any]:
    """What the numbers depend on, apart from the cases."""
    processor = platform.processor() or platform.machine()
    if (info := Path('/proc/cpuinfo')).exists():
        fields = dict(
            (part.strip() for part in line.split(':', 1))
            for line in info.read_text(encoding='utf-8').split('\n\n')[0].splitlines()
            if ':' in line
        )
        processor = (
            f'{fields.get("model name", processor)} '
            f'(family {fields.get("cpu family", "?")}, model {fields.get("model", "?")})'
        )
    return {
        'mmsigma': __version__,
        'torch': torch.__version__,
        'timm': timm.__version__,
        'cpu': processor,
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'device': torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
        'threads': threads,
        'dtype': 'float32, bfloat16 autocast' if low else 'float32',
        'clock': clock,
        'repeats': repeats,
    }


def table(result: dict[str, Any]) -> str:
    """One case as a Markdown table."""
    lines = [
        '| variant | seconds | of full | of bias only | peak memory, MiB | trained parameters |',
        '|---|--:|--:|--:|--:|--:|',
    ]
    for name, row in result['variants'].items():
        memory = '' if row['peak_memory_mib'] is None else f'{row["peak_memory_mib"]:.0f}'
        lines.append(
            f'| {name} | {row["seconds"]:.4f} | {row["ratio_to_full"]:.3f} | '
            f'{row["ratio_to_floor"]:.3f} | {memory} | {row["trained_parameters"]:,} |'
        )
    return '\n'.join(lines)


def say(message: str) -> None:
    """Progress, apart from the results."""
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line, measure, print tables and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', choices=sorted(CASES), default=default)
    parser.add_argument(
        '--shapes', nargs='+', type=Case.parse, metavar='MODEL:HEIGHTxWIDTH:BATCH',
        help='timm ViTs and inputs, instead of a ViT-S/14 and a ViT-B/16',
    )  # fmt: skip
    parser.add_argument(
        '--tuners', action='store_true', help='every tuner of configs/_base_/tuners instead'
    )
    parser.add_argument(
        '--bf16', action='store_true', help='bfloat16 autocast on a CPU too, as a GPU always has'
    )
    parser.add_argument('--repeats', type=int, default=9, help='timed rounds (default 9)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--clock', choices=sorted(CLOCKS), default='wall',
        help='cpu: processor time, for a CPU that others use too; with --threads 1 (threads that '
        'wait use processor time as well)',
    )  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all measurements there')
    parser.add_argument('--quick', action='store_true', help='a tiny model, to test the script')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but PyTorch finds no GPU; use --device cpu')
    if args.clock == 'cpu' and (args.device != 'cpu' or args.threads != 1):
        parser.error('--clock cpu means little without --device cpu --threads 1')
    if args.repeats < 1 or args.threads < 1:
        parser.error('--repeats and --threads must be at least 1')

    torch.set_num_threads(args.threads)
    low = args.bf16 or args.device == 'cuda'
    variants = every_tuner() if args.tuners else VARIANTS
    cases = args.shapes or (QUICK if args.quick else CASES[args.device])
    report: dict[str, Any] = {
        'header': header(args.device, args.threads, args.repeats, low, args.clock),
        'cases': [],
    }
    for name, value in report['header'].items():
        print(f'{name}: {value}')
    peaks = [peak_memory(case, args.device, args.threads, low, variants) for case in cases]
    for case, peak in zip(cases, peaks, strict=True):
        result = bench(case, args.device, args.repeats, low, args.clock, peak, variants)
        report['cases'].append(result)
        print(f'\n{case}\n\n{table(result)}', flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
