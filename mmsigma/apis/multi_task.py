"""Several tuned models in memory on one frozen trunk, called one by one or all on one image."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from mmsigma.apis.shared_forward import shared_forward
from mmsigma.checkpoint import loading
from mmsigma.checkpoint.merge import merge
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.base import Trunk, fingerprint
from mmsigma.registry import TRUNKS, build


class MultiTaskModel(Mapping[str, nn.Module]):
    """Models by name that share a trunk's weights; adapters, neck and head are each one's own.

    ::

        tasks = MultiTaskModel()
        tasks.add('roads', Config.fromfile('roads.py'), 'roads.pth')
        tasks.add('brains', Config.fromfile('brains.py'), 'brains.pth')
        tasks['roads'].test_step(data)  # one
        tasks.predict(data)  # all, with one pass through the blocks that none of them adapts
        with tasks.shared_forward():  # the same for whatever else calls the models
            ...

    The models are mmseg's and mmdet's own, in evaluation mode. Tuners that change the trunk itself
    (full fine-tuning, BitFit, peft's) cannot share it, and what merges into its weights cannot be
    merged here.
    """

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}  # classes of mmseg's and mmdet's
        self._trunk: Trunk | None = None
        self._config: dict | None = None

    def add(
        self,
        name: str,
        config: Config,
        checkpoint: str | Path | None = None,
        merge: bool = False,
    ) -> nn.Module:
        """Build the model of ``config`` on the shared trunk, and load what it has of its own.

        Args:
            name: What the model will be called by.
            config: An mmseg or mmdet config with an ``AdaptedBackbone``. The model keeps it as
                ``cfg``, where ``mmseg.apis`` and ``mmdet.apis`` look for it, and the data set's
                classes as ``dataset_meta``, if the checkpoint has them.
            checkpoint: What training saved; None leaves adapters and head as they are built.
            merge: Whether adapters are merged where they merge by themselves (see
                :mod:`mmsigma.checkpoint.merge`). Others stay as they are, and the log says why.

        Raises:
            InvalidSettingError: The name is taken, the trunk is another one than that of the first
                model, or the tuner changes the trunk.
            CheckpointMismatchError: The checkpoint does not fit.
        """
        if name in self._models:
            raise InvalidSettingError(f'There is a task {name!r} already: {", ".join(self)}.')
        loading.enter(config)
        trunk_config = config.model.backbone.trunk.to_dict()
        if self._config is not None and trunk_config != self._config:
            raise InvalidSettingError(
                f'Task {name!r} is on another trunk: {trunk_config}; the tasks here share '
                f'{self._config}.'
            )
        # Built apart, so that it is shared from the first model on, and whole: a backbone drops
        # from a trunk of its own what none of its maps needs, but others may.
        trunk = self._trunk or build(TRUNKS, trunk_config).requires_grad_(False)
        model_config = copy.deepcopy(config.model)
        model_config.backbone.trunk = trunk
        model: Any = loading.build(config, model_config)
        if checkpoint is not None:
            meta = loading.load(model, checkpoint).get('meta', {}).get('dataset_meta')
            if meta is not None:
                model.dataset_meta = meta
        if merge:
            model.backbone = _merged(name, model.backbone)
        model.cfg = config
        self._trunk, self._config = trunk, trunk_config
        self._models[name] = model.eval()
        return model

    def shared_forward(self) -> AbstractContextManager[None]:
        """Within it, models that are given the same images share the trunk's pass over them.

        They may be called as ever: ``test_step``, ``mmseg.apis.inference_model``, sliding windows;
        see :func:`mmsigma.apis.shared_forward.shared_forward`.
        """
        return shared_forward(model.backbone for model in self._models.values())

    def predict(
        self, data: Mapping[str, Any], names: Iterable[str] | None = None
    ) -> dict[str, list[Any]]:
        """What ``test_step`` of each model gives, with one pass through the blocks they share.

        Predictions are those of each model by itself, to rounding. Models whose preprocessors make
        other images of the data (normalisation, padding) take a pass of their own.

        Args:
            data: A batch as ``test_step`` takes it: ``inputs``, images ``(3, H, W)``, and perhaps
                ``data_samples``, of which every model gets copies.
            names: The models to run; all by default.

        Returns:
            Data samples with predictions, by name.

        Raises:
            UnknownNameError: There is no such model.
        """
        models: dict[str, Any] = {name: self[name] for name in (self if names is None else names)}
        found = {}
        with self.shared_forward():
            for name, model in models.items():
                own = dict(data)
                if 'data_samples' in own:
                    own['data_samples'] = copy.deepcopy(own['data_samples'])
                found[name] = model.test_step(own)
        return found

    def __getitem__(self, name: str) -> nn.Module:
        if name not in self._models:
            raise UnknownNameError(unknown('task', name, self._models))
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def _merged(name: str, backbone: AdaptedBackbone) -> AdaptedBackbone:
    """A backbone on the same trunk whose adapters are merged, or the given one."""
    try:
        merged = merge(backbone)  # on a copy of the trunk, which is dropped
    except InvalidSettingError as error:
        print_log(f'Task {name!r} runs unmerged. {error}', logger='current')
        return backbone
    if merged.trunk.fingerprint != fingerprint(backbone.trunk.weights()):
        tuner = type(backbone.tuner).__name__
        print_log(
            f'Task {name!r} runs unmerged: {tuner} merges into the trunk, which the tasks share. '
            'tools/model_converters/merge.py makes a model with a trunk of its own.',
            logger='current',
        )
        return backbone
    own = AdaptedBackbone(
        backbone.trunk, merged.tuner.settings(), merged.out_indices, merged.autocast, merged.with_cp
    )
    own.adapters = merged.adapters
    return own
