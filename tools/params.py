"""Count parameters: ``python tools/params.py CONFIG [--json]``."""

import argparse
import json

from mmsigma import launch
from mmsigma.analysis.params import count, table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Parameters of trunk, adapters, neck and head. Needs no weights and no data.'
    )
    parser.add_argument('config', help='path of the config')
    launch.add_arguments(parser)
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    counts = count(launch.load_config(args))
    print(json.dumps(counts) if args.json else table(counts))


if __name__ == '__main__':
    launch.run(main)
