"""Detectors that are not here, by their own configs: the lines of docs/detection.md."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from tests.coco import shrink, write_coco
from tests.detectors import TRUNKS
from tests.fixtures import ROOT, Workplace, load, logged

pytest.importorskip('mmdet')

FCOS = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
ROTATED_FCOS = 'mmrotate::rotated_fcos/rotated-fcos-hbox-le90_r50_fpn_1x_dota.py'


def write_dota(root):
    """Three images of 60x80 pixels with a turned plane and a ship, as MMRotate reads them."""
    for part in ('annfiles', 'images'):
        (root / 'trainval' / part).mkdir(parents=True)
    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(picture).save(root / f'trainval/images/P{i}.png')
        (root / f'trainval/annfiles/P{i}.txt').write_text(
            '30 5 50 25 40 35 20 15 plane 0\n60 30 75 30 75 50 60 50 ship 0\n'
        )


def write(place, base):
    """The lines of the docs on ``base``, at sizes of milliseconds, for one epoch."""
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/detection.md').read_text(), re.S)
    assert FCOS in code and base in (ROOT / 'docs/detection.md').read_text()
    code = code.replace(FCOS, base).replace("'configs/", f"'{ROOT.as_posix()}/configs/")
    path = place.root / 'fcos.py'
    path.write_text(code)
    config = Config.fromfile(path)
    args, widths = TRUNKS['dinov2-s']
    shrink(config._cfg_dict, dict(zip(config.widths, widths, strict=True)))
    config.model.backbone.trunk.update(weights='random', model_args=args)
    config.model.backbone.tuner.bottleneck = 8
    config.model.backbone.out_indices = [0, 1, 2, 3]
    config.model.bbox_head.norm_cfg = dict(type='GN', num_groups=4)
    # An epoch finds nothing with certainty.
    config.model.test_cfg.update(score_thr=0.0, nms_pre=20, max_per_img=20)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    config.train_cfg.max_epochs = 1
    config.param_scheduler = []
    config.default_hooks.logger.interval = 1
    with pytest.MonkeyPatch.context() as patch:  # formatting would take longer than training
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        config.dump(path)
    return path


@pytest.mark.parametrize(
    ('base', 'data', 'write_data', 'metric'),
    [
        (FCOS, 'coco', write_coco, 'coco/bbox_mAP'),
        (ROTATED_FCOS, 'split_ss_dota', write_dota, 'dota/mAP'),
    ],
    ids=['boxes', 'oriented boxes'],
)
def test_trains_and_evaluates(base, data, write_data, metric, tmp_path):
    pytest.importorskip(base.partition(':')[0])
    place = Workplace(tmp_path)
    write_data(place.root / 'data' / data)
    work = place.root / 'run'
    assert place.call('train', write(place, base), '--work-dir', work) == 0
    losses = logged(work)
    assert len(losses) == (3 if base == FCOS else 2)
    assert np.isfinite(list(losses.values())).all()
    (value,) = logged(work, metric).values()
    assert 0 <= value <= 1
    state = load(work / 'epoch_1.pth')['state_dict']
    assert not [n for n in state if n.startswith('backbone.trunk.')]
    assert [n for n in state if n.startswith('backbone.adapters.')]
    assert [n for n in state if n.startswith('bbox_head.')]
