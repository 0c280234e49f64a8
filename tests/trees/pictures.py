"""Images and label images that belong together."""

import numpy as np
from PIL import Image

SIZE = (60, 80)


def write_image(path, seed=0, size=SIZE):
    """A noisy image whose right half is brighter."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 60, (*size, 3), np.uint8)
    image[:, size[1] // 2 :] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_labels(path, values, size=SIZE):
    """Labels in upright stripes of these values, in a row."""
    columns = np.array_split(np.arange(size[1]), len(values))
    labels = np.zeros(size, np.uint8)
    for value, stripe in zip(values, columns, strict=True):
        labels[:, stripe] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def write_pairs(images, labels, names, values, size=SIZE):
    """``(image, label image)`` for every name; both folders, both with a pattern of the name.

    ``images`` and ``labels`` are ``(folder, '{}.jpg')``.
    """
    for seed, name in enumerate(names):
        (folder, pattern), (label_folder, label_pattern) = images, labels
        write_image(folder / pattern.format(name), seed, size)
        write_labels(label_folder / label_pattern.format(name), values, size)
