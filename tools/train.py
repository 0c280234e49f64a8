"""Train an mmseg or mmdet config: ``python tools/train.py CONFIG [options]``."""

import argparse
from pathlib import Path

from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError, NothingToResumeError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a config.')
    parser.add_argument('config', help='path of the config')
    launch.add_arguments(parser)
    launch.add_parts(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the last checkpoint of the work dir, or from the one named',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='automatic mixed precision: float16, on a CPU bfloat16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the rate by the batch of all processes over the config's base_batch_size",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmengine.device import get_device

    from mmsigma.engine.hooks.atomic_checkpoint import latest

    config = launch.load_config(args)
    if args.auto_scale_lr:
        if not (config.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise InvalidSettingError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...), the batch that the '
                f'rate is for; {config.filename} does not say it.'
            )
        config.auto_scale_lr.enable = True
    if args.amp:
        wrapper = config.optim_wrapper
        if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise InvalidSettingError(
                f'--amp needs optim_wrapper.type OptimWrapper, the config has {wrapper.type!r}.'
            )
        if get_device() == 'cpu':  # MMEngine's refuses to run there
            wrapper.type = 'mmsigma.BFloat16OptimWrapper'
            for name in ('loss_scale', 'dtype'):  # bfloat16 needs no scale
                wrapper.pop(name, None)
        else:
            wrapper.type = 'AmpOptimWrapper'
            wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume:
        found = latest(config.work_dir) if args.resume == 'auto' else Path(args.resume)
        if found is None or not found.exists():
            folder = found.parent if found else Path(config.work_dir)
            there = sorted(p.name for p in folder.glob('*.pth'))[:8]
            raise NothingToResumeError(
                f'--resume found no checkpoint: {found or folder} does not exist or holds none '
                f'(*.pth in {folder}: {", ".join(there) or "none"}). Leave --resume out to start '
                'anew, or name the --work-dir of the run or the checkpoint.'
            )
        config.resume = True
        config.load_from = str(found)
    loaders = ['train_dataloader', 'val_dataloader']
    launch.start(config, trains=True)
    if launch.has_hook(config, 'FinalTestHook'):
        loaders.append('test_dataloader')
    launch.check_data(config, *loaders)
    if config.get('load_from'):
        launch.check_checkpoint(config.load_from, config)
    launch.build_runner(config).train()


if __name__ == '__main__':
    launch.run(main)
