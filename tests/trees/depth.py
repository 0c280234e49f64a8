"""NYU Depth v2: depth in millimetres, 16 bits a pixel."""

import numpy as np
from PIL import Image

from tests.trees.pictures import write_image

SIZE = (480, 640)  # the metric looks at a fixed part of images of this size


def write_nyu(root):
    """Nearer on the left; nothing was measured along the top."""
    for split, count in (('train', 3), ('test', 2)):
        for i in range(count):
            name = f'bathroom_0001_{i:05}'
            write_image(root / f'nyu/images/{split}/{name}.jpg', i, SIZE)
            depth = np.tile(np.linspace(1000, 9000, SIZE[1]).astype(np.uint16), (SIZE[0], 1))
            depth[:50] = 0
            path = root / f'nyu/annotations/{split}/{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(depth).save(path)
