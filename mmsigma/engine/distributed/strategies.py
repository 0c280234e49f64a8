"""Runtime configs for many processes, merged over any config."""

from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from mmsigma import installed
from mmsigma.engine.distributed.checks import DEEPSPEED, strategy_of
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

NAMES = ('ddp', 'fsdp', 'deepspeed')


def merge(config: Config, name: str) -> None:
    """Merge a runtime config into another config, in place.

    Args:
        config: The other.
        name: ``ddp``, ``fsdp``, ``deepspeed``, or the path of a file.

    Raises:
        UnknownNameError: There is no such file.
    """
    path = Path(name) if name.endswith('.py') else _folder(config) / f'{name}.py'
    if not path.is_file():
        advice = 'Or give the path of a config, which ends in .py.'
        raise UnknownNameError(unknown('strategy', name, NAMES, advice))
    config.merge_from_dict(Config.fromfile(path)._cfg_dict)


def _folder(config: Config) -> Path:
    """The runtime configs beside the config, or, of one elsewhere, those that mmsigma has."""
    for parent in Path(config.filename or '.').resolve().parents:
        if (parent / '_base_/runtime').is_dir():
            return parent / '_base_/runtime'
    return installed.folder('configs') / '_base_/runtime'


def prepare(config: Config) -> None:
    """Adapt a config to the launcher and the device, in place.

    Raises:
        InvalidSettingError: Settings of the optimiser that DeepSpeed does not read.
    """
    if strategy_of(config) == DEEPSPEED:
        _prepare_deepspeed(config)
    if config.launcher == 'none' or get_device() != 'cpu':
        return
    config.sync_bn = None  # PyTorch's runs on GPUs alone
    if config.get('strategy'):
        config.strategy.pop('sync_bn', None)
    else:
        # Upstream's default wrapper names a GPU for each process.
        wrapper = config.get('model_wrapper_cfg') or ConfigDict(broadcast_buffers=False)
        wrapper.setdefault('type', 'MMDistributedDataParallel')
        wrapper.device_ids = None
        config.model_wrapper_cfg = wrapper


def prepare_evaluation(config: Config) -> None:
    """Adapt a config that will not train, in place: DeepSpeed shards nothing then."""
    if strategy_of(config) == DEEPSPEED and config.strategy.get('zero_optimization'):
        config.strategy.zero_optimization.stage = 0  # the others want an optimiser


def _prepare_deepspeed(config: Config) -> None:
    """Its engine clips and accumulates; its wrapper knows nothing but the optimiser."""
    wrapper = config.get('optim_wrapper')
    if not wrapper:
        return
    clip = dict(wrapper.pop('clip_grad', None) or {})
    if clip:
        norm = clip.pop('max_norm', None)
        if norm is None or clip.pop('norm_type', 2) != 2 or clip:
            raise InvalidSettingError(
                'DeepSpeed clips gradients by their norm alone: optim_wrapper.clip_grad is '
                f'dict(max_norm=...); given further: {clip or "no max_norm"}.'
            )
        config.strategy.setdefault('gradient_clipping', norm)
    steps = wrapper.pop('accumulative_counts', 1)
    config.strategy.setdefault('gradient_accumulation_steps', steps)
    wrapper.type = 'DeepSpeedOptimWrapper'
    for name in ('dtype', 'loss_scale'):
        wrapper.pop(name, None)
