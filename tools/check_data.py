"""Look at a config's data before training: ``python tools/check_data.py CONFIG [--sheet PNG]``."""

import argparse
import os

from mmsigma.engine import launch
from mmsigma.errors import DataError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Counts, missing files, labels, sizes and classes of every split. Everything '
        'that is wrong is listed at the end, and the exit status is then 1. No model is built.'
    )
    parser.add_argument('config', help='path of the config')
    launch.add_arguments(parser)
    parser.add_argument('--sheet', metavar='PNG', help='draw a contact sheet of images and labels')
    parser.add_argument(
        '--images', type=int, default=4, help='images of each dataset on the sheet (default: 4)'
    )
    parser.add_argument(
        '--samples',
        type=int,
        default=1000,
        help='images and label files of each dataset to read, evenly spaced (default: 1000)',
    )
    parser.add_argument('--all', action='store_true', help='read every file')
    parser.add_argument(
        '--workers', type=int, default=min(os.cpu_count() or 1, 8), help='threads that read'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmsigma.datasets.inspection import class_table, inspect

    config = launch.load_config(args)
    parts = inspect(config, None if args.all else args.samples, args.workers)
    for part in parts:
        found = part.lines or ['could not be looked at']
        print(f'{part.name}: ' + f'\n{" " * (len(part.name) + 2)}'.join(found))
    print('\n'.join(['', *class_table(parts)]))
    if args.sheet:
        from mmsigma.visualization.contact_sheet import draw

        count = draw(parts, args.sheet, args.images, config.get('default_scope'))
        print(f'\n{args.sheet}: {count} images')
    # What is wrong with a head or a metric is found once for every split.
    problems = list(dict.fromkeys(problem for part in parts for problem in part.problems))
    if not parts:
        problems.append(f'{args.config} has no dataloader.')
    warnings = [warning for part in parts for warning in part.warnings]
    if warnings:
        print(f'\n{len(warnings)} things to look at:\n- ' + '\n- '.join(warnings))
    if problems:
        raise DataError(f'{len(problems)} things are wrong:\n- ' + '\n- '.join(problems))
    print('\nNothing is wrong' + (' besides.' if warnings else '.'))


if __name__ == '__main__':
    launch.run(main)
