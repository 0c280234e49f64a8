"""mmsigma: parameter-efficient adaptation of frozen vision foundation models in OpenMMLab.

``custom_imports = dict(imports=['mmsigma'])`` in a config is all that mmseg or mmdet needs.
"""

from mmsigma import dependencies
from mmsigma.version import __version__

dependencies.check()

from mmsigma import registry  # noqa: E402  (only after the check can its imports be trusted)

__all__ = ['__version__', 'registry']
