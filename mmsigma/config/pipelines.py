"""The pipelines that data sets for semantic segmentation share."""

from typing import Any

Pipeline = list[dict[str, Any]]


def semantic_pipelines(
    scale: tuple[int, int],
    crop_size: tuple[int, int],
    ratio_range: tuple[float, float] = (0.5, 2.0),
    test_scale: tuple[int, int] | None = None,
    keep_ratio: bool = True,
    reduce_zero_label: bool = False,
) -> tuple[Pipeline, Pipeline]:
    """Random scales, crops, flips and colours for training; one scale for evaluation.

    Args:
        scale: Width and height that images are resized to, in pixels.
        crop_size: Height and width of training crops, in pixels.
        ratio_range: Of the random factor on ``scale`` in training.
        test_scale: ``scale`` in evaluation, where it is another.
        keep_ratio: Whether evaluation keeps the ratio of width and height.
        reduce_zero_label: Whether label 0 is ignored and the others count from 0.

    Returns:
        The pipelines of training, and of validation and test.
    """
    labels: dict[str, Any] = dict(type='LoadAnnotations')
    if reduce_zero_label:
        labels['reduce_zero_label'] = True
    train: Pipeline = [
        dict(type='mmsigma.SeedFromPosition'),
        dict(type='LoadImageFromFile'),
        labels,
        dict(type='RandomResize', scale=scale, ratio_range=ratio_range, keep_ratio=True),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        # Scales below one leave an image smaller than the crop.
        dict(type='Pad', size=crop_size[::-1], pad_val=dict(img=0, seg=255)),
        dict(type='PackSegInputs'),
    ]
    test: Pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=test_scale or scale, keep_ratio=keep_ratio),
        # Behind the resize: metrics are computed at the labels' own size.
        labels,
        dict(type='PackSegInputs'),
    ]
    return train, test
