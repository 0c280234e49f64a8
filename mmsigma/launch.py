"""What the command-line tools share: arguments, configs, checks, and errors without tracebacks."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from mmsigma.datasets.check import check_paths
from mmsigma.errors import InvalidSettingError, MMSigmaError

GUARD = 'mmsigma.CheckpointGuardHook'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every launcher takes."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings: key=value, nested as a.b=value, lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes it; torchrun sets the environment variable instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line, with mmsigma's registries and checkpoint guard in place.

    Raises:
        InvalidSettingError: No such config file, or an override of something that is no setting.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = Path(args.config)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path('configs')
        near = sorted(str(p) for p in folder.glob('*.py'))[:12]
        raise InvalidSettingError(
            f'There is no config {args.config!r}; {folder} holds {", ".join(near) or "none"}.'
        )
    config = Config.fromfile(path)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    config.launcher = args.launcher
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get('work_dir'):
        config.work_dir = str(Path('work_dirs') / path.stem)
    _add_plugin(config)
    return config


def _add_plugin(config: Config) -> None:
    """Import mmsigma and guard checkpoints, also where a user's own config forgot to."""
    imports = config.get('custom_imports') or ConfigDict(imports=[])
    names = [imports['imports']] if isinstance(imports['imports'], str) else imports['imports']
    if 'mmsigma' not in names:
        config.custom_imports = ConfigDict(
            imports=[*names, 'mmsigma'],
            allow_failed_imports=imports.get('allow_failed_imports', False),
        )
    hooks = config.get('custom_hooks') or []
    if not any(hook.get('type') == GUARD for hook in hooks):
        config.custom_hooks = [*hooks, ConfigDict(type=GUARD)]


def check_data(config: Config, *loaders: str) -> None:
    """Check the paths of these dataloaders before anything is built.

    Raises:
        DataError: See :func:`mmsigma.datasets.check.check_paths`.
    """
    for name in loaders:
        loader = config.get(name)
        if loader:
            check_paths(loader.get('dataset') or {}, name)


def run(main: Callable[[], Any]) -> None:
    """Run a tool; an error meant for users is printed alone and the exit status is 1."""
    try:
        main()
    except MMSigmaError as error:
        print(f'\nerror: {error}', file=sys.stderr)
        sys.exit(1)
