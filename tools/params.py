"""Count parameters: ``python tools/params.py CONFIG ... [--json]``."""

import argparse
import json
from pathlib import Path

from mmsigma import launch
from mmsigma.analysis.params import count, table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Parameters of trunk, adapters, neck and head. Needs no weights and no data.'
    )
    parser.add_argument(
        'configs', nargs='+', metavar='config', help='path of a config; a trunk config gets SIGMA'
    )
    launch.add_arguments(parser)
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
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


if __name__ == '__main__':
    launch.run(main)
