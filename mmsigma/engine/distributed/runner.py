"""MMEngine's runners, which change no file of an earlier run before they have a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine import runner
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import nn

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine.distributed.connect import connect
from mmsigma.engine.hooks.checkpoint_guard import CheckpointGuardHook


@contextmanager
def integers_aside(model: nn.Module) -> Iterator[None]:
    """Let zeros take the place of a trunk's integers, of which MMEngine cannot take the mean.

    It does of every parameter, to log what ``init_weights`` changes.
    """
    kept = {p: p.data for p in model.parameters() if not p.is_floating_point()}
    try:
        for parameter, data in kept.items():
            parameter.data = torch.zeros(1, device=data.device).expand(data.shape)
        yield
    finally:
        for parameter, data in kept.items():
            parameter.data = data


class _Guarded:
    """Writes the config with the first checkpoint, and loads nothing in part.

    Upstream writes the config into the work directory before it has read a checkpoint or a label; a
    run that fails on those would replace the config of a good run, and so would a test.
    """

    _dumped = False
    cfg: Any
    work_dir: str
    timestamp: str

    hooks: list[Hook]
    register_hook: Callable[[Hook], None]

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register a config's hooks; where none guards checkpoints, one that does, too."""
        super().register_hooks(*args, **kwargs)  # type: ignore[misc]
        if not any(isinstance(hook, CheckpointGuardHook) for hook in self.hooks):
            self.register_hook(CheckpointGuardHook())

    def dump_config(self) -> None:
        """Nothing yet; see :meth:`call_hook`."""

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks; when they let the first checkpoint be saved, write the config."""
        super().call_hook(fn_name, **kwargs)  # type: ignore[misc]
        if fn_name == 'before_save_checkpoint' and not self._dumped:
            self._dumped = True
            if is_main_process():
                name = Path(self.cfg.filename or f'{self.timestamp}.py').name
                write(Path(self.work_dir) / name, self.cfg.pretty_text.encode())


class Runner(_Guarded, runner.Runner):
    """MMEngine's runner: one process, or DDP."""

    def setup_env(self, env_cfg: dict) -> None:
        """Let the processes meet, and set them up."""
        connect(self.launcher, env_cfg.get('dist_cfg'))
        super().setup_env(env_cfg)

    def _init_model_weights(self) -> None:
        with integers_aside(self.model):
            super()._init_model_weights()


class StrategyRunner(_Guarded, runner.FlexibleRunner):
    """MMEngine's runner of strategies, for configs with ``strategy``."""

    def build_strategy(self, *args: Any, **kwargs: Any) -> Any:
        """Let the processes meet, and set them up."""
        connect(kwargs.get('launcher', 'none'), (kwargs.get('env_cfg') or {}).get('dist_cfg'))
        return super().build_strategy(*args, **kwargs)

    def save_checkpoint(
        self, *args: Any, meta: dict | None = None, by_epoch: bool = True, **kwargs: Any
    ) -> None:
        """As upstream, of the step that ``meta`` says.

        Upstream takes the step after the current one, whatever it is told; a checkpoint that is
        written again after its validation, with the name of the best one, would be a step ahead.
        """
        loop, told = self.train_loop, meta or {}
        iteration, epoch = loop._iter, loop._epoch
        loop._iter = told.get('iter', iteration + (not by_epoch)) - (not by_epoch)
        loop._epoch = told.get('epoch', epoch + by_epoch) - by_epoch
        try:
            super().save_checkpoint(*args, meta=meta, by_epoch=by_epoch, **kwargs)
        finally:
            loop._iter, loop._epoch = iteration, epoch
