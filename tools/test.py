"""Evaluate a checkpoint on the test split: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError

if TYPE_CHECKING:
    from mmengine.config import Config

# What takes the place of a test pipeline's end under --tta, by scope: the flips, and then steps
# that see what each of them made. Segmentation is compared with labels that are not flipped.
_PACK = {'mmseg': 'PackSegInputs', 'mmdet': 'PackDetInputs'}
_MODELS: dict[str, dict[str, Any]] = {
    'mmseg': {'type': 'SegTTAModel'},
    'mmdet': {
        'type': 'DetTTAModel',
        'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100},
    },
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='path of the config it was trained with')
    parser.add_argument('checkpoint', help='path of the checkpoint')
    launch.add_arguments(parser)
    launch.add_parts(parser)
    parser.add_argument('--show-dir', help='where to draw the predictions; none are drawn without')
    parser.add_argument('--show', action='store_true', help='draw the predictions on the screen')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show shows one')
    parser.add_argument(
        '--out',
        metavar='PATH',
        help='where predictions go: for mmseg a folder of label images, for mmdet a file (.pkl)',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or flips",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = launch.load_config(args)
    config.load_from = args.checkpoint
    config.resume = False
    draw(config, args)
    if args.out:
        keep(config, args.out)
    if args.tta:
        augment(config)
    launch.start(config, trains=False)
    launch.check_checkpoint(args.checkpoint, config)
    launch.check_data(config, 'test_dataloader')
    launch.build_runner(config).test()


def draw(config: Config, args: argparse.Namespace) -> None:
    """Draw predictions where they are asked for, and nowhere else."""
    hook = config.get('default_hooks', {}).get('visualization')
    if hook:
        hook.update(draw=bool(args.show_dir or args.show), show=args.show, wait_time=args.wait_time)
    elif args.show_dir or args.show:
        raise InvalidSettingError(
            '--show and --show-dir need default_hooks.visualization, which the config lacks: see '
            'configs/_base_/runtime/mmseg.py and mmdet.py.'
        )
    if args.show_dir:
        config.visualizer.save_dir = args.show_dir


def keep(config: Config, path: str) -> None:
    """Let the predictions be kept, as mmseg's and mmdet's own tools/test.py do."""
    if config.get('default_scope') == 'mmseg':
        evaluators = config.test_evaluator
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            evaluator.update(output_dir=path, keep_results=True)
        return
    if not path.endswith(('.pkl', '.pickle')):
        raise InvalidSettingError(
            f'--out of a detector is a file that ends in .pkl; given: {path}.'
        )
    found = config.test_evaluator
    dump = {'type': 'DumpDetResults', 'out_file_path': path}
    config.test_evaluator = [*(found if isinstance(found, list) else [found]), dump]


def augment(config: Config) -> None:
    """Put the model into one that tests it on several versions of an image.

    Raises:
        InvalidSettingError: The config's pipeline does not end as mmseg's or mmdet's do.
    """
    scope = config.get('default_scope')
    dataset = config.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'tta_pipeline' not in config:
        *before, last = dataset.pipeline
        if scope not in _PACK or last['type'] != _PACK[scope]:
            raise InvalidSettingError(
                f'--tta: the config has no tta_pipeline, and its test pipeline ends in '
                f'{last["type"]}, so no flip can be put before it. Give it tta_model and '
                'tta_pipeline, as mmseg and mmdet have them.'
            )
        flips = [{'type': 'RandomFlip', 'prob': float(prob)} for prob in (0, 1)]
        labels = [step for step in before if step['type'].startswith('Load') and scope == 'mmseg']
        labels = [step for step in labels if 'Image' not in step['type']]
        if scope == 'mmdet':
            keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
            last = {**last, 'meta_keys': (*keys, 'flip', 'flip_direction')}
        config.tta_pipeline = [
            *(step for step in before if step not in labels),
            {'type': 'TestTimeAug', 'transforms': [flips, *([step] for step in labels), [last]]},
        ]
    dataset.pipeline = config.tta_pipeline
    config.model = {**config.get('tta_model', _MODELS.get(scope, {})), 'module': config.model}


if __name__ == '__main__':
    launch.run(main)
