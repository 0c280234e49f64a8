"""Necks that turn a plain trunk's maps into a pyramid."""

from mmsigma.models.necks.simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
