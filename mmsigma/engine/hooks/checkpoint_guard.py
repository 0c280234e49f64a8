"""Refuses checkpoints that do not fit, and tests on an untrained trunk."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper

from mmsigma.checkpoint import loading
from mmsigma.errors import WeightsError
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Makes loading strict for the whole model; MMEngine only warns.

    Args:
        ignore: Prefixes of names that may differ, e.g. ``['decode_head.']`` to start from adapters
            that were trained with another head. The backbone itself is always strict. Of several
            such hooks, what one ignores all do.
    """

    def __init__(self, ignore: Sequence[str] = ()) -> None:
        self.ignore = tuple(ignore)
        self.trained = False

    def before_train(self, runner: Any) -> None:
        """Note that adapters train on this very trunk, whatever its weights."""
        self.trained = True

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare names and shapes before anything is copied into the model.

        Raises:
            CheckpointMismatchError: See :func:`mmsigma.checkpoint.loading.check`.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        guards = [hook for hook in (self, *runner.hooks) if isinstance(hook, CheckpointGuardHook)]
        loading.check(model, checkpoint, [part for guard in guards for part in guard.ignore])

    def before_test(self, runner: Any) -> None:
        """Check that every trunk has weights.

        Raises:
            WeightsError: A trunk is random, and neither training in this process nor a checkpoint
                has confirmed its weights.
        """
        if self.trained:
            return
        for name, backbone in loading.backbones(runner.model).items():
            if not backbone.trunk.loaded:
                raise WeightsError(
                    f'{name or "The model"} would be tested on trunk {backbone.trunk.name!r} with '
                    "random weights (weights='random'). Set `weights` of the trunk to a file or "
                    "'hub', or load a checkpoint that was trained on these very weights."
                )
