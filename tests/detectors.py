"""Tiny twins of mmdet's leaves: their own topology, strides and losses, on trunks of width 16."""

import os

import pytest
from mmengine.config import Config

from tests.coco import shrink
from tests.fixtures import ROOT

HEADS = (
    'retinanet',
    'faster-rcnn',
    'mask-rcnn',
    'cascade-mask-rcnn',
    'mask2former',
    'mask2former-panoptic',
    'mask2former-semantic',
    'dino',
)
# Four blocks that each end a map, for every trunk of the leaves.
TRUNKS = {
    'dinov2-s': (
        dict(embed_dim=32, depth=4, num_heads=2, img_size=56),
        [32, 32, 32, 32],
    ),
    'swin-t': (
        dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4, img_size=64),
        [16, 32, 64, 128],
    ),
    'sam2-hiera-t': (
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


def leaf(head, trunk='dinov2-s', tuner='sigma'):
    """The leaf on the slice, or CamVid's where the head is semantic."""
    if head == 'mask2former-semantic':
        return f'camvid/{tuner}_{trunk}_{head}_camvid-448x336'
    return f'coco_slice/{tuner}_{trunk}_{head}_coco-slice'


def tiny(name, data):
    """The leaf ``name`` with a tiny trunk of random weights, on the data in the folder ``data``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSIGMA_DATA', os.fspath(data))
        config = Config.fromfile(ROOT / f'configs/{name}.py')
    args, widths = TRUNKS[name.split('_')[-3]]
    shrink(config._cfg_dict, dict(zip(config.widths, widths, strict=True)))
    backbone = config.model.backbone
    backbone.trunk.update(weights='random', model_args=args)
    backbone.out_indices = [0, 1, 2, 3][-len(backbone.out_indices) :]
    if 'bottleneck' in backbone.tuner or backbone.tuner.type == 'SIGMA':
        backbone.tuner.bottleneck = 8
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.param_scheduler = []
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint.interval = 2
    config.default_hooks.visualization.interval = 1
    return config
