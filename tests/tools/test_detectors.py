"""Every head of mmdet on trunks of every kind: two steps and an evaluation through the launcher."""

import numpy as np
import pytest

from tests.coco import write_coco
from tests.detectors import HEADS, TRUNKS, leaf, tiny
from tests.fixtures import Workplace, load, logged


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A tiny COCO where the configs look for the slice."""
    place = Workplace(tmp_path_factory.mktemp('detectors'))
    write_coco(place.root / 'data/coco_slice')
    return place


def write(place, name, **changes):
    """A tiny twin of a leaf, with an own name; dotted names of settings in ``changes``."""
    config = tiny(name, place.root / 'data')
    config.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    path = place.root / f'{len(list(place.root.glob("*.py")))}.py'
    with pytest.MonkeyPatch.context() as patch:  # formatting would take longer than training
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        config.dump(path)
    return path


METRICS = {'retinanet': ['bbox'], 'faster-rcnn': ['bbox'], 'dino': ['bbox']}


@pytest.mark.parametrize('trunk', TRUNKS)
@pytest.mark.parametrize('head', HEADS)
def test_trains_and_evaluates(head, trunk, place):
    name = leaf(head, trunk)
    work = place.root / name.split('/')[-1]
    assert place.call('train', write(place, name), '--work-dir', work) == 0
    losses = logged(work)
    assert len(losses) == 2
    assert all(np.isfinite(loss) for loss in losses.values())
    state = load(work / 'iter_2.pth')['state_dict']
    assert not [n for n in state if n.startswith('backbone.trunk.')]
    assert [n for n in state if n.startswith('backbone.adapters.')]
