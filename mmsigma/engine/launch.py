"""What the command-line tools share: arguments, configs, checks, and errors without tracebacks.

Importing this is cheap, so that ``--help`` and a misspelt option are answered at once; what takes
seconds to import (torch, MMEngine) is imported by the functions that need it.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma import installed, moved
from mmsigma.engine import deferred
from mmsigma.errors import (
    CheckpointMismatchError,
    DiskFullError,
    InvalidSettingError,
    MMSigmaError,
    UnknownNameError,
    unknown,
)

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmsigma.engine.distributed.runner import Runner, StrategyRunner

# What a run should have and a config of one's own may lack, and why.
_TRAINING_HOOKS = {
    'StopHook': 'a run that is stopped loses the steps since its last checkpoint',
    'PendingValidationHook': 'a killed run may lack a validation',
}
_JOB_HOOKS = {
    'MeanLossHook': 'the log has the losses of process 0',
    'SameBuffersHook': 'processes evaluate with batch norms of their own',
    'RankCheckHook': 'processes with fewer steps than others hang',
}
FULL = (errno.ENOSPC, errno.EDQUOT)
# What :func:`add_parts` names: the parts of a recipe that can be others than the file's.
PARTS = ('trunk', 'tuner', 'head')

# Settings at the top level of a config that MMEngine reads, besides those of its runner.
_SETTINGS = {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every launcher takes."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=_option,
        action='extend',
        help='override settings: key=value, nested as a.b=value, lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    add_trust(parser)
    parser.add_argument(
        '--strategy',
        metavar='NAME',
        help='how processes share the model: ddp, fsdp, deepspeed, or the path of a config',
    )
    # torch.distributed.launch passes it; torchrun sets the environment variable instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the argument of every tool that reads a checkpoint."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='read checkpoints that hold more than tensors and plain values, and run what they say',
    )


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that put other parts into a recipe."""
    for part in PARTS:
        parser.add_argument(
            f'--{part}',
            metavar='NAME',
            help=f'another {part}: a name in configs/_base_/{part}s, or the path of a file',
        )


def _option(text: str) -> str:
    """What ``--cfg-options`` takes; it is read by :func:`read_options`."""
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'needs key=value; given: {text!r}')
    return text


def read_options(options: Iterable[str]) -> dict[str, Any]:
    """Values by key of ``key=value`` words, read as MMEngine's ``DictAction`` reads them."""
    from mmengine.config import DictAction

    namespace, parser = argparse.Namespace(), argparse.ArgumentParser()
    DictAction([], 'read', nargs='+')(parser, namespace, list(options))
    return namespace.read


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line.

    Args:
        args: What the arguments of :func:`add_arguments`, and maybe :func:`add_parts`, were given.
            ``cfg_options`` may be words ``key=value``, a dict, or None.

    Raises:
        InvalidSettingError: No such config file, an override inside something that has no
            settings, or a config or head that another part cannot be put into.
        UnknownNameError: An override of a name that nothing reads, or that is misspelt; a part that
            does not exist.
    """
    from mmengine.config import Config

    from mmsigma.checkpoint import safe_loading
    from mmsigma.config import recipe
    from mmsigma.engine.distributed import strategies

    safe_loading.trust_all(getattr(args, 'trust_checkpoint', False))
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    options = args.cfg_options or {}
    if not isinstance(options, Mapping):
        options = read_options(options)
    path = Path(args.config)
    if not path.is_file() and path.parent == Path():
        path = installed.config(path.name) or path
    if not path.is_file():
        folder = path.parent if path.name != str(path) else installed.folder('configs')
        near = sorted(str(p) for p in folder.glob('*.py'))[:12]
        raise InvalidSettingError(
            f'There is no config {args.config!r}; {folder} holds {", ".join(near) or "none"}.'
        )
    parts = {f'{part}s': getattr(args, part, None) for part in PARTS}
    config = recipe.compose(path, parts) if any(parts.values()) else Config.fromfile(path)
    if getattr(args, 'strategy', None):
        strategies.merge(config, args.strategy)
    for key in options:
        _check_override(config, key)
    config.merge_from_dict(options)
    config.launcher = args.launcher
    strategies.prepare(config)
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get('work_dir'):
        config.work_dir = str(Path('work_dirs') / Path(config.filename).stem)
    return config


@cache
def _settings() -> set[str]:
    import inspect

    from mmengine.runner import Runner

    return _SETTINGS | set(inspect.signature(Runner).parameters)


def _check_override(config: Config, key: str) -> None:
    """Follow ``key`` into the config; a new name in a dict may pass, a misspelt one may not."""
    from mmengine.config import Config

    node: Any = config
    parts = key.split('.')
    for depth, part in enumerate(parts):
        where = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise InvalidSettingError(
                    f'--cfg-options {key}: {where} is a list of {len(node)}, {part!r} is none of '
                    f'them. Count from 0, or give the whole list: {where}="[...]".'
                )
            node = node[int(part)]
        elif not isinstance(node, Mapping | Config):
            raise InvalidSettingError(
                f'--cfg-options {key}: {where} is {node!r}, which has no {part!r} inside.'
            )
        elif part in node:
            node = node[part]
        else:
            # Not ``type``, which a new ``dtype`` would be taken for.
            names = [name for name in node if name != 'type']
            misspelt = get_close_matches(part, names, n=1, cutoff=0.88)
            if misspelt or (depth == 0 and part not in _settings()):
                advice = 'See the config for the names of its settings.'
                raise UnknownNameError(unknown(f'setting of {where}', part, sorted(node), advice))
            return


def _warn_of_missing(config: Config, trains: bool) -> None:
    """Say what a config lacks that ``configs/_base_`` would give it; what it says is what runs."""
    from mmengine.logging import print_log

    needed = {
        **(_TRAINING_HOOKS if trains else {}),
        **(_JOB_HOOKS if config.launcher != 'none' else {}),
    }
    lacks = [f'{name} ({why})' for name, why in needed.items() if not has_hook(config, name)]
    wrapper = config.get('optim_wrapper') or {}
    if trains and wrapper.get('paramwise_cfg') and 'constructor' not in wrapper:
        lacks.append(
            "optim_wrapper.constructor='mmsigma.GroupedOptimWrapperConstructor' (few groups of "
            'parameters, a faster optimiser)'
        )
    if lacks:
        print_log(
            f'{config.filename} has no {"; no ".join(lacks)}. A list in a config takes the place '
            "of its base's: begin it with *_base_.custom_hooks, and take the base from "
            'configs/_base_/runtime and configs/_base_/schedules.',
            logger='current',
            level=logging.WARNING,
        )


def start(config: Config, trains: bool) -> None:
    """Let the processes of a job meet and check that they fit together; before anything is built.

    Args:
        config: What :func:`load_config` gave.
        trains: Whether its optimiser will be used.

    Raises:
        LaunchError: They did not meet, or differ in their devices.
        InvalidSettingError: See :func:`mmsigma.engine.distributed.checks.check_job`.
    """
    from mmsigma.engine.distributed import strategies
    from mmsigma.engine.distributed.checks import check_job
    from mmsigma.engine.distributed.connect import connect

    connect(config.launcher, (config.get('env_cfg') or {}).get('dist_cfg'))
    if not trains:
        strategies.prepare_evaluation(config)
    check_job(config, trains)
    _warn_of_missing(config, trains)


def build_runner(config: Config) -> Runner | StrategyRunner:
    """MMEngine's runner of this config: that of strategies where it names one."""
    from mmsigma.engine.distributed.runner import Runner, StrategyRunner

    return (StrategyRunner if config.get('strategy') else Runner).from_cfg(config)


def check_data(config: Config, *loaders: str) -> None:
    """Check the paths of these dataloaders before anything is built, on every machine of the job.

    Raises:
        DataError: See :func:`mmsigma.datasets.check.check_paths`, and
            :func:`mmsigma.datasets.agreement.disagreements`.
    """
    from mmsigma.datasets.agreement import check_agreement
    from mmsigma.datasets.check import check_paths
    from mmsigma.engine.distributed.connect import agree

    def check() -> None:
        for name in loaders:
            loader = config.get(name)
            if loader:
                check_paths(loader.get('dataset') or {}, name, config.get('default_scope'))
                check_agreement(config, name)

    agree(check)


def check_checkpoint(path: str | Path, config: Config | None = None) -> None:
    """Check that a local checkpoint can be read before anything is built, on every machine.

    Raises:
        CheckpointMismatchError: It does not exist, is truncated or no checkpoint at all, is of
            another strategy, or, to resume from, has no optimiser state.
    """
    from mmengine.config import Config

    from mmsigma.engine.distributed.connect import agree

    agree(lambda: _check_checkpoint(path, config or Config()))


def _check_checkpoint(path: str | Path, config: Config) -> None:
    from mmsigma.checkpoint import safe_loading
    from mmsigma.datasets.check import REMOTE
    from mmsigma.engine.distributed.checks import check_kind, check_optimizer

    file = Path(path).expanduser()
    check_kind(file, config)
    if REMOTE in str(path) or file.is_dir():  # DeepSpeed's checkpoints are folders
        return
    near = sorted(p.name for p in file.parent.glob('*.pth') if p.name != file.name)[:8]
    there = f'{file.parent} holds {", ".join(near) or "no other"}'
    if not file.is_file():
        raise CheckpointMismatchError(f'There is no checkpoint {str(path)!r}; {there}.')
    checkpoint = safe_loading.read(file)
    if not config.get('resume'):
        return
    if 'optimizer' not in checkpoint:
        raise CheckpointMismatchError(
            f'{file} has no optimiser state to resume from, as best_*.pth never have; {there}. '
            'Resume from iter_*.pth or epoch_*.pth, or start from its weights with '
            '--cfg-options load_from=...'
        )
    check_optimizer(file, checkpoint['optimizer'])


def has_hook(config: Config, name: str) -> bool:
    """Whether ``custom_hooks`` names this hook of mmsigma, with or without the scope."""
    return any(
        str(hook.get('type')).removeprefix('mmsigma.') == name
        for hook in config.get('custom_hooks') or []
    )


def run(main: Callable[[], Any]) -> None:
    """Run a tool; an error meant for users is printed alone, and its status ends the process."""
    deferred.install()
    try:
        main()
    except MMSigmaError as error:
        _end(error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _end(disk_full(error))
    except RuntimeError as error:
        from mmsigma.engine.distributed.connect import lost_process

        lost = lost_process(error) or moved.cause(error)
        if lost is None:
            raise
        _end(lost)


def disk_full(error: OSError) -> DiskFullError:
    """What to say of an error that is one of :data:`FULL`."""
    place = Path(error.filename).parent if error.filename else Path.cwd()
    there = next(path for path in (place, *place.parents, Path()) if path.exists())
    left = shutil.disk_usage(there).free / 2**20
    return DiskFullError(
        f'{error.strerror} ({there.resolve()}: {left:,.0f} MiB free). What was written before is '
        'whole. Free some space and run it again, a training with --resume.'
    )


def _end(error: MMSigmaError) -> None:
    print(f'\nerror: {error}', file=sys.stderr)
    sys.exit(error.status)


if __name__ == '__main__':
    sys.exit('error: This starts nothing. To train: mmsigma train CONFIG, or tools/train.py CONFIG')
