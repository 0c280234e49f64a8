"""Merge adapters into the weights beside them.

Usage: ``python tools/model_converters/merge.py CONFIG CHECKPOINT OUT``
"""

import argparse
from pathlib import Path

from mmsigma.engine import launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='The same model with fewer parts to run, where the tuner allows it.'
    )
    parser.add_argument('config', help='path of the config it was trained with')
    parser.add_argument('checkpoint', help='path of the checkpoint')
    parser.add_argument('out', help='new folder for config.py, model.pth and trunk.safetensors')
    launch.add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmsigma.checkpoint import merged_model

    config = launch.load_config(args)
    launch.check_checkpoint(args.checkpoint)
    made = merged_model.save(config, args.checkpoint, args.out)
    print(
        f'{made["before"]} -> {made["after"]}: {made["adapters_before"]:,} -> '
        f'{made["adapters_after"]:,} parameters beside those of the trunk'
    )
    for name, size in made['files'].items():
        print(f'{Path(args.out) / name}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
    launch.run(main)
