"""Evaluate a checkpoint on the test split: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

import argparse

from mmsigma.engine import launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='path of the config it was trained with')
    parser.add_argument('checkpoint', help='path of the checkpoint')
    launch.add_arguments(parser)
    launch.add_parts(parser)
    parser.add_argument('--show-dir', help='where to draw the predictions; none are drawn without')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = launch.load_config(args)
    config.load_from = args.checkpoint
    config.resume = False
    launch.start(config, trains=False)
    launch.check_checkpoint(args.checkpoint, config)
    visualization = config.get('default_hooks', {}).get('visualization')
    if visualization:
        visualization.draw = args.show_dir is not None
    if args.show_dir:
        config.visualizer.save_dir = args.show_dir
    launch.check_data(config, 'test_dataloader')
    launch.build_runner(config).test()


if __name__ == '__main__':
    launch.run(main)
