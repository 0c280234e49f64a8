"""Count parameters: ``python tools/params.py CONFIG ... [--json] [--tuners [FILE ...]]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments.pages import put

if TYPE_CHECKING:
    from mmengine.config import Config

TUNERS = Path(__file__).parent.parent / 'configs/_base_/tuners'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Parameters of trunk, adapters, neck and head. Needs no weights and no data.'
    )
    parser.add_argument(
        'configs', nargs='+', metavar='config', help='path of a config; a trunk config gets SIGMA'
    )
    launch.add_arguments(parser)
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument(
        '--tuners',
        nargs='*',
        metavar='file',
        help='count trunk configs with each of these tuner configs, or with all there are',
    )
    parser.add_argument(
        '--write', metavar='page', type=Path, help='with --tuners: put the table into this page'
    )
    args = parser.parse_args()
    if args.write and args.tuners is None:
        parser.error('--write needs --tuners')
    return args


def main() -> None:
    args = parse_args()

    from mmsigma.apis.params import count, table

    if args.tuners is not None:
        print_shares(args)
        return
    counts = {}
    for config in args.configs:
        name = Path(config).stem
        args.config = config
        counts[name] = count(launch.load_config(args))
        if len(args.configs) > 1 and not args.json:
            print(line(name, counts[name]), flush=True)
    if args.json:
        print(json.dumps(counts if len(counts) > 1 else counts[name]))
    elif len(counts) == 1:
        print(table(counts[name]))


def line(name: str, counts: dict[str, float]) -> str:
    """One config of several: trunk, adapters and the share that trains."""
    return (
        f'{name:<40}{counts["trunk"]:>16,}{counts["adapters"]:>14,}'
        f'{counts["share_percent"]:>9.2f} %'
    )


def print_shares(args: argparse.Namespace) -> None:
    """The table of tuners on trunks, printed or put into a page."""
    from mmsigma.apis.params import share_table, shares

    files = args.tuners or sorted(map(str, TUNERS.glob('*.py')))
    trunks = {Path(path).stem: part(args, path, 'trunk') for path in args.configs}
    # Overrides are for the trunks.
    plain = argparse.Namespace(**{**vars(args), 'cfg_options': None})
    tuners: dict[str, Any] = {Path(p).stem: part(plain, p, 'tuner').tuner for p in files}
    found = shares(trunks, tuners)
    if args.write:
        put(args.write, 'tools/params.py', share_table(found))
    else:
        print(json.dumps(found) if args.json else share_table(found))


def part(args: argparse.Namespace, path: str, name: str) -> Config:
    """A config that has ``name``, a trunk or a tuner, at its top level; its imports are made."""
    from mmengine.utils import import_modules_from_strings

    config = launch.load_config(argparse.Namespace(**{**vars(args), 'config': path}))
    if name not in config:
        raise InvalidSettingError(
            f'{path} has no `{name}` at its top level: with --tuners, configs are trunks and what '
            'follows --tuners are tuners, as below configs/_base_/trunks and configs/_base_/tuners.'
        )
    import_modules_from_strings(**config.get('custom_imports', {'imports': []}))
    return config


if __name__ == '__main__':
    launch.run(main)
