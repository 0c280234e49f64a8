"""The tiny trunks, one file per group of families; the contract tests run on all of them."""

from tests.tiny_trunks import (
    mmpretrain_hierarchical,
    mmpretrain_plain,
    timm_generic,
    timm_hierarchical,
    timm_plain,
)
from tests.tiny_trunks.base import Tiny

GROUPS = (
    timm_plain,
    timm_generic,
    mmpretrain_plain,
    timm_hierarchical,
    mmpretrain_hierarchical,
)
TRUNKS: dict[str, Tiny] = {name: tiny for group in GROUPS for name, tiny in group.TRUNKS.items()}
