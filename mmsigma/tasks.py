"""Several tuned models in memory on one frozen trunk, each called by its name."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.utils import import_modules_from_strings
from torch import nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.trunks.base import Trunk


class Tasks(Mapping[str, nn.Module]):
    """Models by name that share a trunk's weights; adapters, neck and head are each one's own.

    ::

        tasks = Tasks()
        tasks.add('roads', Config.fromfile('roads.py'), 'roads.pth')
        tasks.add('brains', Config.fromfile('brains.py'), 'brains.pth')
        tasks['roads'].test_step(data)

    The models are mmseg's and mmdet's own, in evaluation mode. Tuners that change the trunk itself
    (full fine-tuning, BitFit, peft's) cannot share it.
    """

    def __init__(self) -> None:
        self._models: dict[str, nn.Module] = {}
        self._trunk: Trunk | None = None
        self._config: dict | None = None

    def add(self, name: str, config: Config, checkpoint: str | Path | None = None) -> nn.Module:
        """Build the model of ``config`` on the shared trunk, and load what it has of its own.

        Args:
            name: What the model will be called by.
            config: An mmseg or mmdet config with an ``AdaptedBackbone``.
            checkpoint: What training saved; None leaves adapters and head as they are built.

        Raises:
            InvalidSettingError: The name is taken, the trunk is another one than that of the first
                model, or the tuner changes the trunk.
            CheckpointMismatchError: The checkpoint does not fit.
        """
        if name in self._models:
            raise InvalidSettingError(f'There is a task {name!r} already: {", ".join(self)}.')
        import_modules_from_strings(**config.get('custom_imports', {'imports': []}))
        init_default_scope(config.get('default_scope', 'mmengine'))
        trunk = config.model.backbone.trunk.to_dict()
        if self._config is not None and trunk != self._config:
            raise InvalidSettingError(
                f'Task {name!r} is on another trunk: {trunk}; the tasks here share {self._config}.'
            )
        model_config = copy.deepcopy(config.model)
        if self._trunk is not None:
            model_config.backbone.trunk = self._trunk
        model = MODELS.build(model_config)
        if checkpoint is not None:
            load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
        self._trunk, self._config = model.backbone.trunk, trunk
        self._models[name] = model.eval()
        return model

    def __getitem__(self, name: str) -> nn.Module:
        if name not in self._models:
            raise UnknownNameError(unknown('task', name, self._models))
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)
