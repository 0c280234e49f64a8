"""The depth head: shapes, range, what it learns from, and bad settings."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmseg')

from mmengine.registry import MODELS
from mmseg.models import losses  # noqa: F401  (registers mmseg's losses)

from mmsigma.errors import InvalidSettingError
from mmsigma.models.heads import DPTDepthHead

WIDTHS = (8, 16, 16, 8)


def maps(sides=((20, 28), (10, 14), (5, 7), (3, 4)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, c, *side, generator=generator) for c, side in zip(WIDTHS, sides, strict=True)
    ]


def head(**settings):
    torch.manual_seed(0)
    return DPTDepthHead(WIDTHS, channels=16, **settings)


def test_depth_is_at_twice_the_finest_map_and_in_range():
    with torch.no_grad():
        depth = head(max_depth=3.0)([100 * m for m in maps()])
    assert depth.shape == (2, 1, 40, 56)
    assert depth.min() >= 0 and depth.max() <= 3
    assert depth.std() > 0.1


def test_prediction_has_the_size_of_the_image():
    predicted = head().predict(maps(), [dict(img_shape=(75, 101))] * 2, None)
    assert predicted.shape == (2, 1, 75, 101)


def test_every_map_counts():
    """No level is left out: each changes the depth, at odd sizes too."""
    model, plain = head().eval(), maps()
    with torch.no_grad():
        expected = model(plain)
        for i in range(4):
            other = [m + 1 if i == k else m for k, m in enumerate(plain)]
            assert not torch.allclose(model(other), expected, atol=1e-5)


def test_learns_a_depth():
    model, features = head(), maps()
    truth = torch.full((1, 80, 112), 4.0)
    truth[:, :, 56:] = 8.0
    truth[:, :10] = 0.0  # not measured
    samples = [SimpleNamespace(gt_depth_map=SimpleNamespace(data=truth))] * 2
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    found = []
    for _ in range(30):
        (loss,) = model.loss(features, samples, None).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert all(p.grad is not None for p in model.parameters())
    assert found[-1] < 0.3 * found[0]


def test_is_registered():
    built = MODELS.build(dict(type='mmsigma.DPTDepthHead', in_channels=[8, 8], channels=8))
    assert isinstance(built, DPTDepthHead)


@pytest.mark.parametrize('settings', [dict(in_channels=[]), dict(in_channels=[8], max_depth=0.0)])
def test_bad_settings(settings):
    with pytest.raises(InvalidSettingError, match='needs the channels of its maps'):
        DPTDepthHead(**settings)
