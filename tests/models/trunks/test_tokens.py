"""TokenLayout against loops."""

import pytest
import torch

from mmsigma.models.trunks.tokens import TokenLayout


@pytest.mark.parametrize('prefix', [0, 1, 5])
@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 3), (4, 1)])
def test_layout(height: int, width: int, prefix: int) -> None:
    batch, channels = 2, 3
    layout = TokenLayout(height, width, prefix)
    tokens = torch.randn(batch, prefix + height * width, channels)
    head, grid = layout.split(tokens)
    assert head.shape == (batch, prefix, channels)
    assert torch.equal(torch.cat([head, grid], dim=1), tokens)
    assert grid.data_ptr() == tokens[:, prefix:].data_ptr()  # views, not copies
    image = layout.to_map(tokens)
    assert image.shape == (batch, channels, height, width)
    assert image.is_contiguous()
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                assert torch.equal(image[b, :, y, x], tokens[b, prefix + y * width + x])
