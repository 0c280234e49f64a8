"""Time, memory and operations of backbones, whole models, adapters and shared passes.

    python tools/analysis_tools/benchmark.py COMMAND [--help]

Weights are random and no data is read: neither time nor memory depends on them. What is compared
runs in turns, forwards and backwards by round, so that what slows the machine down for a while
slows all of it. Seconds are medians over rounds; a ratio is the median of the ratios within a
round.
"""

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} must be at least 1')
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Height and width, in pixels; one number is both."""
    height, times, width = text.partition('x')
    try:
        return positive(height), positive(width if times else height)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no HEIGHTxWIDTH, as 512x512 is') from error


def shape(text: str) -> tuple[str, int, int, int]:
    """A model or a width, height and width of the input, and how many there are in a batch."""
    try:
        name, extent, batch = text.split(':')
        return name, *size(extent), positive(batch)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no NAME:HEIGHTxWIDTH:BATCH, such as vit_small_patch14_dinov2:224x308:4'
        ) from error


SWITCH = dict(action='store_true')
# Options that commands share; :func:`add` gives them to one.
OPTIONS: dict[str, dict[str, Any]] = {
    'json': dict(metavar='OUT', help='write all measurements there'),
    'write': dict(metavar='PAGE', help='put the tables into their place in a page'),
    'device': dict(choices=['cpu', 'cuda'], help='default: cuda if there is one'),
    'repeats': dict(type=positive, help='timed rounds (default %(default)s)'),
    'threads': dict(type=positive, help='of a CPU'),
    'clock': dict(
        choices=['cpu', 'wall'],
        help='cpu: processor time, for a CPU that others use too; with --threads 1 (threads that '
        'wait use processor time as well)',
    ),
    'shapes': dict(nargs='+', type=shape, metavar='NAME:HEIGHTxWIDTH:BATCH'),
    'models': dict(nargs='+', metavar='NAME', help="timm's names"),
    'model': dict(metavar='NAME', default='vit_small_patch14_dinov2', help="timm's name"),
    'model-args': dict(type=json.loads, default={}, help='of timm, as JSON, e.g. {"depth": 2}'),
    'size': dict(type=size, metavar='HEIGHTxWIDTH', help='pixels (default %(default)s)'),
    'batch': dict(type=positive, default=1, help='images (default 1)'),
    'bf16': dict(**SWITCH, help='bfloat16 autocast of trunk and adapters'),
    'compile': dict(**SWITCH, help='with model.backbone.compile=True'),
    'channels-last': dict(**SWITCH, help='with mmsigma.ChannelsLastHook'),
    'chunked-loss': dict(**SWITCH, help='with mmsigma.ChunkedLossHook, with mmseg'),
    'cuda-graphs': dict(**SWITCH, help='with model.backbone.cuda_graphs=True'),
    'fused': dict(**SWITCH, help='with optim_wrapper.optimizer.fused=True'),
    'half-trunk': dict(**SWITCH, help='with the trunk stored in bfloat16, if nothing trains there'),
}
TIMED = ('json', 'write', 'repeats', 'threads', 'clock')
ONE_THREAD = dict(repeats=7, threads=1, clock='cpu', device='cpu')
SWITCHES = ('compile', 'channels-last', 'chunked-loss', 'cuda-graphs', 'fused', 'half-trunk')


def add(parser: argparse.ArgumentParser, *names: str, **defaults: Any) -> None:
    """Give a command's parser some of the shared options, with its own defaults."""
    for name in names:
        parser.add_argument(f'--{name}', **OPTIONS[name])
    parser.set_defaults(**defaults)


def backbone(parser: argparse.ArgumentParser) -> None:
    """Time, memory and parameters of tuners, forward and backward, without any head.

    A step is one forward pass, the sum over the maps of their mean squares as the loss, and one
    backward pass; no optimiser. Peak memory is what a step takes on top of the model: on a CPU the
    growth of the resident set during the first step of a fresh process, on a GPU of the allocated
    bytes during a later one. A GPU always has --bf16.

    On a GPU a second table says how much of a step it computes, and how much it waits to be told
    what: 'started' is how long Python and PyTorch take to start it all, 'on the GPU' the sum of the
    times of its kernels, and 'kernels' how many they are. Where a step takes as long as starting
    it, faster kernels win nothing.
    """
    add(parser, *TIMED, 'device', 'shapes', 'model-args', 'bf16', repeats=9, bf16=None)
    add(parser, 'compile', 'cuda-graphs', 'half-trunk')
    text = 'every tuner of configs/_base_/tuners, or those named, instead of the usual variants'
    parser.add_argument('--tuners', nargs='*', metavar='NAME', help=text)


def model(parser: argparse.ArgumentParser) -> None:
    """Time and memory of whole models, head and losses included, on generated images.

    A training step is MMEngine's train_step on images of noise with a few objects: data
    preprocessor, forward, losses, backward, and the config's own optimiser at a rate of zero.
    Inference is mmseg's or mmdet's test_step.

    - Ratios are to the first config; 'of bias only' to the config whose tuner is BitFit, the floor.
    - Operations are counted in one step, and in one forward pass of the backbone. 'Of peak' is
      what a step reaches of the rate of one large matrix product, timed here in the same precision.
    - Peak memory is what the first steps take on top of the model: activations, gradients, state
      of the optimiser. It is measured as the command backbone does.
    - --compile, --channels-last, --chunked-loss, --cuda-graphs, --fused and --half-trunk run each
      config once more, so; --together with all of them. Seconds of the first turn are in the JSON,
      with the time that compiling took.
    - --tuners runs each config with each of these tuners. --profile says at the end where a
      training step of each spends its time, by operator.
    """
    add(parser, *TIMED, 'device', 'size', 'batch', 'bf16', *SWITCHES, repeats=3, size='512x512')
    parser.add_argument('configs', nargs='+', metavar='config', help='the first is the reference')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE'
    )
    parser.add_argument('--trunk', metavar='NAME', help='another, as tools/train.py takes it')
    parser.add_argument('--head', metavar='NAME', help='another, as tools/train.py takes it')
    parser.add_argument('--tuners', '--tuner', nargs='+', default=[None], metavar='NAME')
    parser.add_argument('--amp', **SWITCH, help='bfloat16 autocast of the whole model')
    parser.add_argument('--together', **SWITCH, help='all six switches in one')
    parser.add_argument('--no-inference', **SWITCH, help='training steps alone')
    parser.add_argument('--profile', **SWITCH, help='time by operator')


def scaling(parser: argparse.ArgumentParser) -> None:
    """Cost of a training step against the size of image and trunk, without head and optimiser.

    Full fine-tuning, biases alone and SIGMA on timm's ViTs, square images. A step is that of the
    command backbone. On a CPU, memory is counted, from shapes alone: weights, and what the forward
    pass keeps for the backward pass; on a GPU it is the peak of a step, weights included. Points
    with more operations than --max-tflops, or that do not fit a GPU, are not timed: they are
    missing, not estimated. Counting takes minutes for large trunks.
    """
    models = [f'vit_{name}_patch14_dinov2' for name in ('small', 'base', 'large', 'giant')]
    add(parser, *TIMED, 'device', 'models', 'model-args', 'batch', repeats=3, models=models)
    sizes = [256, 384, 512, 768, 1024, 1536]
    parser.add_argument('--sizes', nargs='+', type=positive, default=sizes, help='sides, in pixels')
    text = 'time no step of more operations than this, in full fine-tuning (default: 2 on a CPU)'
    parser.add_argument('--max-tflops', type=float, metavar='N', help=text)
    parser.add_argument('--plot', metavar='OUT', help='write a PNG')
    parser.set_defaults(bf16=None)


def adapter(parser: argparse.ArgumentParser) -> None:
    """Time of adapters alone: SIGMA's module against Mona's pair, both in both forms.

    Forward and backward of what a method adds to one block: one SIGMA adapter, or Mona's two, with
    their residuals, on tokens of noise with a class token. Ratios are to Mona's pair in plain
    PyTorch. A shape begins with the width of the tokens, as in 384:16x22:4.
    """
    add(parser, *TIMED, 'device', 'shapes', 'bf16', repeats=30)


def tasks(parser: argparse.ArgumentParser) -> None:
    """Time of tasks that share one pass of a trunk.

    Backbones with SIGMA in their last blocks, on one trunk, are given one image: one by one, and
    together. Processor time on one thread of a CPU, unless --clock says wall time.
    """
    add(parser, *TIMED, 'model', 'model-args', 'size', size='336x448', **ONE_THREAD)
    parser.add_argument('--tasks', type=positive, nargs='+', default=(2, 4), help='how many')
    text = 'how many last blocks adapt'
    parser.add_argument('--adapted', type=int, nargs='+', default=(0, 3, 6, 12), help=text)


def precision(parser: argparse.ArgumentParser) -> None:
    """What each precision of the trunk costs in accuracy, time and memory.

    By storage and autocast, of SIGMA as it is built: the relative error of each map against
    float64, in the norm, the largest of the maps; the time of a training step, forward and backward
    pass of the backbone, as a share of float32's, in processor time on one thread of a CPU unless
    --clock says wall time; and counted, in MiB, weights and what the forward pass leaves for the
    backward pass, with and without activation checkpointing.
    """
    add(parser, *TIMED, 'model', 'model-args', 'size', size='448', **ONE_THREAD)
    parser.add_argument('--weights', default='random', help='a file of weights; random by default')


Add = Callable[[argparse.ArgumentParser], None]
COMMANDS: tuple[Add, ...] = (backbone, model, scaling, adapter, tasks, precision)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    form = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = argparse.ArgumentParser(description=__doc__, **form)
    parsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    # What only some commands let one choose.
    rest = dict(amp=False, bf16=False, model_args={}, repeats=0, threads=None, clock='wall')
    for command in COMMANDS:
        text = inspect.getdoc(command) or ''
        about = dict(description=text, help=text.partition('\n')[0], **form)
        own = parsers.add_parser(command.__name__, **about)
        own.set_defaults(**rest)
        command(own)
    args = parser.parse_args(arguments)
    if args.clock == 'cpu':
        args.device, args.threads = args.device or 'cpu', args.threads or 1
        if args.device != 'cpu' or args.threads != 1:
            parser.error('--clock cpu means little without --device cpu --threads 1')
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_args(arguments)
    # Only now: a wrong option is answered at once, not after the seconds that imports take.
    from benchmarks import COMMANDS, measure

    from mmsigma.engine import launch

    launch.run(lambda: measure.run(COMMANDS[args.command], args))


if __name__ == '__main__':
    main()
