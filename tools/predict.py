"""Predict with several tuned models that share one frozen trunk, and one pass through it.

::

    python tools/predict.py --task roads CONFIG CHECKPOINT --task brains CONFIG CHECKPOINT \\
        --out DIR IMAGES...

writes ``DIR/roads/NAME.png`` and ``DIR/brains/NAME.png`` for each image; detectors write ``.json``.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.engine import launch
from mmsigma.errors import DataError, InvalidInputError, InvalidSettingError

if TYPE_CHECKING:
    from mmengine.config import Config

SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--task',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a model, and what it is called; once for each',
    )
    parser.add_argument('images', nargs='+', help='image files, or folders of them')
    parser.add_argument('--out', required=True, help='where predictions go')
    parser.add_argument('--merge', action='store_true', help='merge adapters where they merge')
    parser.add_argument(
        '--device', help='where the models run (default: cuda where there is a GPU, or cpu)'
    )
    return parser.parse_args()


def find(given: list[str]) -> dict[str, Path]:
    """Image files by what their predictions will be called.

    Raises:
        DataError: A path that does not exist, no image at all, or two of one name.
    """
    paths: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise DataError(f'There is no image or folder {str(path)!r}.')
        if path.is_dir():
            paths += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        else:
            paths.append(path)
    if not paths:
        raise DataError(
            f'No image in {", ".join(given)}: none ends in {", ".join(sorted(SUFFIXES))}.'
        )
    twice = [name for name, count in Counter(p.stem for p in paths).items() if count > 1]
    if twice:
        both = ', '.join(str(p) for p in paths if p.stem == twice[0])
        raise DataError(
            f'Predictions are called as the images, but {both} have one name. Give them apart, '
            'with another --out.'
        )
    return {path.stem: path for path in paths}


def configs(given: list[list[str]]) -> dict[str, Config]:
    """The configs by name, when all that can be checked before anything is built is so.

    Raises:
        InvalidSettingError: A name twice, or one that is no name of a folder.
        CheckpointMismatchError: A checkpoint that cannot be read.
    """
    found: dict[str, Config] = {}
    for name, config, checkpoint in given:
        if not re.fullmatch(r'\w[\w.-]*', name) or name in found:
            raise InvalidSettingError(
                f'--task {name!r}: names become folders, so each stands once and consists of '
                'letters, digits, "_", "-" and ".".'
            )
        setting = dict(config=config, cfg_options=None, work_dir=None, launcher='none')
        found[name] = launch.load_config(argparse.Namespace(**setting, local_rank=0))
        launch.check_checkpoint(checkpoint)
    return found


def main() -> None:
    args = parse_args()
    images = find(args.images)

    import torch

    from mmsigma.apis import predictions
    from mmsigma.apis.multi_task import MultiTaskModel
    from mmsigma.apis.shared_forward import shared_blocks

    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    tasks, readers = MultiTaskModel(), {}
    given = configs(args.task)
    for name, _, checkpoint in args.task:
        tasks.add(name, given[name], checkpoint, merge=args.merge)
        readers[name] = predictions.reader(given[name])
    models: dict[str, Any] = dict(tasks)
    for name, model in models.items():
        model.to(device)
        backbone = model.backbone
        tuner, depth = type(backbone.tuner).__name__, backbone.out_indices[-1] + 1
        print(f'{name}: {tuner}, {shared_blocks(backbone)} of {depth} blocks shared')

    failed = []
    for number, (stem, path) in enumerate(images.items(), 1):
        start = time.perf_counter()
        try:
            with tasks.shared_forward():
                samples = {n: m.test_step(readers[n](path))[0] for n, m in models.items()}
        except InvalidInputError as error:
            failed.append(path)
            print(f'[{number}/{len(images)}] {path}: left out. {error}', flush=True)
            continue
        for name, sample in samples.items():
            classes = (getattr(models[name], 'dataset_meta', None) or {}).get('classes', ())
            predictions.save(predictions.files(sample, classes), Path(args.out) / name, stem)
        seconds = time.perf_counter() - start
        print(f'[{number}/{len(images)}] {path}: {seconds:.2f} s', flush=True)
    if failed:
        raise DataError(
            f'{len(failed)} of {len(images)} images were left out: '
            f'{", ".join(map(str, failed[:8]))}. The others are in {args.out}.'
        )


if __name__ == '__main__':
    launch.run(main)
