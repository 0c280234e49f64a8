"""Real weights, real images: a few steps of the real config."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests import shared
from tests.fixtures import LEAF, Workplace, load, logged
from tests.shared import DINOV2 as WEIGHTS
from tests.shared import need

DATA = shared.DATA / 'camvid'
COUNTS = dict(train=367, val=101, test=233)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope='module')
def real():
    need(DATA, WEIGHTS)


@pytest.mark.parametrize('split', COUNTS)
def test_pairs_are_complete(split):
    images = {p.stem for p in (DATA / f'img_dir/{split}').glob('*.jpg')}
    labels = {p.stem for p in (DATA / f'ann_dir/{split}').glob('*.png')}
    assert images == labels
    assert len(images) == COUNTS[split]


def test_splits_share_no_image():
    names = [p.name for split in COUNTS for p in (DATA / f'img_dir/{split}').glob('*.jpg')]
    assert len(set(names)) == len(names)


def test_labels_are_classes_or_void():
    found = set()
    for path in sorted(DATA.glob('ann_dir/*/*.png')):
        label = np.array(Image.open(path))
        assert label.shape == (360, 480)
        found |= set(np.unique(label).tolist())
    assert found == {*range(11), 255}


def test_weights_load_strictly_and_are_no_noise():
    from mmsigma.models.trunks import TimmViT

    trunk = TimmViT('vit_small_patch14_dinov2', weights=str(WEIGHTS))
    assert trunk.loaded
    assert sum(p.numel() for p in trunk.parameters()) == 22_056_192
    # Position embeddings of neighbours are alike in a trained ViT, and unrelated in a random one.
    grid = trunk.model.pos_embed[0, 1:].float()
    side = torch.nn.functional.cosine_similarity(grid[:-1], grid[1:]).median()
    assert side > 0.5


@pytest.fixture(scope='module')
def trained(real, tmp_path_factory):
    """Eight steps through the command line, then validation on three images."""
    place = Workplace(tmp_path_factory.mktemp('camvid'))
    place.env |= {'MMSIGMA_DATA': str(DATA.parent), 'MMSIGMA_WEIGHTS': str(WEIGHTS.parent)}
    result = place.spawn(
        'train', LEAF, '--work-dir', 'run', '--cfg-options',
        'train_cfg.max_iters=8', 'train_cfg.val_interval=8', 'default_hooks.logger.interval=1',
        'param_scheduler=[]', 'default_hooks.checkpoint.interval=8',
        'train_dataloader.dataset.indices=[0,100,200,300]',
        'val_dataloader.dataset.indices=3', 'test_dataloader.dataset.indices=3',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return place.root / 'run'


def test_the_loss_falls(trained):
    losses = list(logged(trained).values())
    assert len(losses) == 8
    assert losses[0] == pytest.approx(np.log(11), rel=0.25)  # all classes alike at the start
    assert np.mean(losses[-2:]) < 0.9 * losses[0]


def test_what_is_saved_stays_under_10_mb(trained):
    best = next(trained.glob('best_mIoU_*.pth'))
    assert best.stat().st_size < 10e6
    state = load(best)['state_dict']
    assert not [name for name in state if name.startswith('backbone.trunk.')]
    assert [name for name in state if name.startswith('backbone.adapters.')]


def test_scores_are_logged(trained):
    score = logged(trained, 'mIoU')
    assert list(score) == [8]
    assert 0 < score[8] < 100
