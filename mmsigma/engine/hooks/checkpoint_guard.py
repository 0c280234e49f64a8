"""Refuses checkpoints that do not fit, and tests on an untrained trunk."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper

from mmsigma.errors import CheckpointMismatchError, WeightsError
from mmsigma.models.adapted_backbone import AdaptedBackbone
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
            CheckpointMismatchError: Missing or unknown names, or other shapes.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        own = model.state_dict()
        guards = [hook for hook in (self, *runner.hooks) if isinstance(hook, CheckpointGuardHook)]
        state = checkpoint.get('state_dict', checkpoint)
        # The backbone compares its own part, and can say more about it.
        skipped = (
            *(prefix for guard in guards for prefix in guard.ignore),
            *(f'{n}.' for n, m in model.named_modules() if isinstance(m, AdaptedBackbone)),
        )
        missing = [n for n in own if n not in state and not n.startswith(skipped)]
        unknown = [n for n in state if n not in own and not n.startswith(skipped)]
        shapes = [
            f'{n} is {tuple(state[n].shape)}, expected {tuple(own[n].shape)}'
            for n in own
            if n in state and not n.startswith(skipped) and state[n].shape != own[n].shape
        ]
        if missing or unknown or shapes:
            raise CheckpointMismatchError(
                f'The checkpoint does not fit the model: {len(missing)} missing {missing[:3]}, '
                f'{len(unknown)} unknown {unknown[:3]}, {len(shapes)} misshapen {shapes[:2]}. Use '
                'the config it was trained with, or name the parts that may differ: '
                "dict(type='mmsigma.CheckpointGuardHook', ignore=['decode_head.'])."
            )

    def before_test(self, runner: Any) -> None:
        """Check that every trunk has weights.

        Raises:
            WeightsError: A trunk is random, and neither training in this process nor a checkpoint
                has confirmed its weights.
        """
        if self.trained:
            return
        for name, module in runner.model.named_modules():
            if isinstance(module, AdaptedBackbone) and not module.trunk.loaded:
                raise WeightsError(
                    f'{name or "The model"} would be tested on trunk {module.trunk.name!r} with '
                    "random weights (weights='random'). Set `weights` of the trunk to a file or "
                    "'hub', or load a checkpoint that was trained on these very weights."
                )
