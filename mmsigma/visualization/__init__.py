"""Pictures: of predictions, of data, and where a run puts them."""

from mmsigma.visualization.backend import AtomicVisBackend

__all__ = ['AtomicVisBackend']
