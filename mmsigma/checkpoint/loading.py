"""Whole models and their checkpoints: how they are built, read, compared and loaded, everywhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from mmsigma.checkpoint import safe_loading
from mmsigma.checkpoint.record import check_tensors
from mmsigma.models.adapted_backbone import AdaptedBackbone


def enter(config: Config) -> None:
    """Import the plugins of a config, and make its scope the one that registries look in."""
    import_modules_from_strings(**config.get('custom_imports', {'imports': []}))
    init_default_scope(config.get('default_scope', 'mmengine'))


def build(config: Config, model: Mapping[str, Any] | None = None) -> nn.Module:
    """The model of a config, or another in its place, built where its plugins are known."""
    enter(config)
    return MODELS.build(config.model if model is None else model)


def backbones(model: nn.Module) -> dict[str, AdaptedBackbone]:
    """The adapted backbones of a model, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, AdaptedBackbone)}


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; see :mod:`mmsigma.checkpoint.safe_loading`."""
    return safe_loading.load(path)


def tensors(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict in a checkpoint, which may be one itself."""
    return checkpoint.get('state_dict', checkpoint)


def check(model: nn.Module, checkpoint: Mapping[str, Any], ignore: Sequence[str] = ()) -> None:
    """Compare names and shapes before anything is copied into a model.

    The backbone compares its own part, and can say more about it: see
    :mod:`mmsigma.checkpoint.record`.

    Args:
        model: Not wrapped.
        checkpoint: Of the whole model.
        ignore: Prefixes of names that may differ.

    Raises:
        CheckpointMismatchError: Missing or unknown names, or other shapes.
    """
    skipped = (*ignore, *(f'{name}.' for name in backbones(model)))
    state, own = (
        {name: value for name, value in given.items() if not name.startswith(skipped)}
        for given in (tensors(checkpoint), model.state_dict())
    )
    advice = (
        ", or name the parts that may differ: dict(type='mmsigma.CheckpointGuardHook', "
        "ignore=['decode_head.'])"
    )
    check_tensors(state, own, own, 'the model', advice)


def load(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of the whole model, strictly, and return what is in the file.

    Raises:
        CheckpointMismatchError: It does not fit.
    """
    checkpoint = read(path)
    check(model, checkpoint)
    load_state_dict(model, tensors(checkpoint), strict=True)
    return checkpoint
