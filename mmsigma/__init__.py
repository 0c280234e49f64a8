"""mmsigma: parameter-efficient adaptation of frozen vision foundation models in OpenMMLab.

``custom_imports = dict(imports=['mmsigma'])`` in a config is all that mmseg or mmdet needs:
MMEngine imports :mod:`mmsigma.registry` itself when it meets a type such as
``mmsigma.AdaptedBackbone``. So this is imported at once, as tools that answer ``--help`` want it.
"""

from mmsigma import dependencies, moved
from mmsigma.version import __version__

dependencies.check()
moved.install()

__all__ = ['__version__']
