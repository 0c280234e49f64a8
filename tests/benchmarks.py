"""Tiny twins of the benchmarks' leaves: their own data, head and schedule, on narrow trunks."""

import os

import pytest
from mmengine.config import Config

from tests.coco import shrink
from tests.fixtures import ROOT
from tests.tiny import TUNERS
from tests.trees import FOLDERS

# Four blocks that each end a map, for every family of the leaves.
_PLAIN = dict(embed_dim=32, depth=4, num_heads=2, img_size=64), [32, 32, 32, 32]
TRUNKS = {
    'TimmViT': _PLAIN,
    'TimmEVA': _PLAIN,
    'TimmSwin': (
        dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4, img_size=64),
        [16, 32, 64, 128],
    ),
    'TimmHieraDet': (
        dict(
            embed_dim=16,
            num_heads=1,
            stages=(1, 1, 1, 1),
            window_spec=(4, 4, 3, 3),
            global_att_blocks=(3,),
        ),
        [16, 32, 64, 128],
    ),
}
LEAVES = sorted(
    path.relative_to(ROOT / 'configs').with_suffix('').as_posix()
    for folder in FOLDERS
    for path in (ROOT / 'configs' / folder).glob('*.py')
)


def tiny(name, data):
    """The leaf ``name`` with a tiny trunk of random weights, on the data in the folder ``data``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSIGMA_DATA', os.fspath(data))
        config = Config.fromfile(ROOT / f'configs/{name}.py')
    args, widths = TRUNKS[config.trunk.type]
    shrink(config._cfg_dict, dict(zip(config.widths, widths, strict=True)))
    backbone = config.model.backbone
    backbone.trunk.update(weights='random', model_args=args)
    backbone.out_indices = [0, 1, 2, 3][-len(backbone.out_indices) :]
    if backbone.tuner.type != 'HFPeft':
        backbone.tuner.update(TUNERS[backbone.tuner.type])
    if name.startswith('coco/'):
        let_count(config.model.test_cfg)
    if 'inference' in config:  # whole images in few windows
        crop = (240, 320) if config.model.type == 'DepthEstimator' else (60, 80)
        config.model.test_cfg.update(crop_size=crop, stride=crop)
    if 'decode_head' in config.model and 'channels' in config.model.decode_head:
        config.model.decode_head.channels = 32
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    config.train_dataloader.batch_size = 2
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.param_scheduler = []
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint.interval = 2
    config.default_hooks.visualization.draw = False
    return config


def let_count(node):
    """Let detections count, however uncertain they are, as after two steps all of them are."""
    for key, value in node.items():
        if isinstance(value, dict):
            let_count(value)
        elif key in ('score_thr', 'object_mask_thr', 'iou_thr'):
            node[key] = 0.0


def write(place, name, **changes):
    """A tiny twin of a leaf as a file of its own; dotted names of settings in ``changes``."""
    config = tiny(name, place.root / 'data' / name.split('/')[0])
    config.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    for hook in config.custom_hooks:
        if hook.type == 'mmsigma.LabelCheckHook':
            hook.samples = 1  # of four files, which have a few of the classes: no error then
    path = place.root / f'{len(list(place.root.glob("*.py")))}.py'
    with pytest.MonkeyPatch.context() as patch:  # formatting would take longer than training
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        config.dump(path)
    return path
