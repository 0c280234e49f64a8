"""Checks of a job before anything is built, the same on every process."""

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from mmsigma.engine.distributed.connect import agree
from mmsigma.errors import CheckpointMismatchError, DataError, InvalidSettingError

DEEPSPEED = 'DeepSpeedStrategy'
# Strategies that save a folder with a file for each process.
_FOLDERS = (DEEPSPEED, 'FSDPStrategy')
# What PyTorch calls x86 processors without AVX-512, for which it has no bfloat16 products.
WITHOUT_BFLOAT16 = ('NO AVX', 'AVX2')
_SCALERS = ('AmpOptimWrapper', 'ApexOptimWrapper')
_ONEBIT = 'deepspeed.runtime.fp16.onebit'


def strategy_of(config: Config) -> str:
    """Name of the strategy: ``DDP`` where MMEngine's runner does without one."""
    return str((config.get('strategy') or {}).get('type', 'DDP')).removeprefix('mmsigma.')


def check_job(config: Config, trains: bool) -> None:
    """Check together that precision and strategy fit; call it when processes have met.

    Raises:
        InvalidSettingError: See :func:`check_precision` and :func:`check_strategy`.
    """
    agree(lambda: check_strategy(config))
    agree(lambda: check_precision(config, trains))


def check_strategy(config: Config) -> None:
    """Check that a strategy has what it needs.

    Raises:
        InvalidSettingError: DeepSpeed is not installed or too new, PyTorch is too old to shard,
            there is no launcher, or passes would be compiled or recorded whose weights come and go.
    """
    name = strategy_of(config)
    for option, what in (('compile', 'compiled blocks'), ('cuda_graphs', 'recorded passes')):
        if name in (*_FOLDERS, 'FSDP2Strategy') and _at(config, f'model.backbone.{option}'):
            raise InvalidSettingError(
                f'model.backbone.{option} with strategy {name}: weights are gathered when layers '
                f'are called, and in {what} no layer is. Set model.backbone.{option}=False, or '
                'take --strategy ddp.'
            )
    if name == DEEPSPEED:
        _check_deepspeed(config)
    if name == 'FSDP2Strategy' and not _has_fsdp2():
        raise InvalidSettingError(
            f'strategy FSDP2Strategy needs PyTorch >= 2.6; this is {torch.__version__}. Upgrade '
            'PyTorch, or take --strategy ddp.'
        )
    if name in (DEEPSPEED, 'FSDP2Strategy') and config.get('launcher', 'none') == 'none':
        raise InvalidSettingError(
            f'strategy {name} shards over the processes of a launcher, and there is none. Start '
            'with `bash tools/dist_train.sh CONFIG GPUS --strategy ...`, --launcher slurm or mpi, '
            'or leave the strategy out.'
        )


def _check_deepspeed(config: Config) -> None:
    if find_spec('deepspeed') is None:
        raise InvalidSettingError(
            'strategy DeepSpeedStrategy needs the package deepspeed, which is not installed: pip '
            "install 'deepspeed<0.19.7' (it compiles its kernels: a CUDA toolkit that fits PyTorch "
            'must be there). Without it, --strategy fsdp shards parameters and optimiser as ZeRO-3 '
            'does.'
        )
    try:
        import_module(_ONEBIT)
    except ImportError as error:
        raise InvalidSettingError(
            f'strategy DeepSpeedStrategy: MMEngine imports {_ONEBIT}, which deepspeed '
            f"{version('deepspeed')} does not have ({error}). pip install 'deepspeed<0.19.7', or "
            'take --strategy fsdp.'
        ) from error
    if _at(config, 'model.backbone.trunk.dtype') == 'int8':
        raise InvalidSettingError(
            "strategy DeepSpeedStrategy with model.backbone.trunk.dtype='int8': DeepSpeed does not "
            'take integers for parameters. Take --strategy ddp or fsdp, or leave trunk.dtype out.'
        )


def _has_fsdp2() -> bool:
    from torch.distributed import fsdp

    return hasattr(fsdp, 'fully_shard')


def check_precision(config: Config, trains: bool = True) -> None:
    """Check that this device computes in the precision that a config asks for.

    Where it does, but far slower than in float32, or in float16 without a scaled loss, a warning
    says so.

    Raises:
        InvalidSettingError: bfloat16 on a GPU without it, or MMEngine's AMP without a GPU.
    """
    device = get_device()
    wrapper = (trains and config.get('optim_wrapper')) or {}
    if device == 'cpu' and wrapper.get('type') == 'AmpOptimWrapper':
        raise InvalidSettingError(
            'optim_wrapper AmpOptimWrapper scales losses on a GPU, and this machine has none. Set '
            "optim_wrapper.type to 'mmsigma.BFloat16OptimWrapper' (the same as --amp on a CPU), or "
            "to 'OptimWrapper' for float32."
        )
    half = _asked(config, wrapper, 'float16')
    frozen = _at(config, 'model.backbone.tuner.type') == 'Frozen'
    scaled = wrapper.get('type') in _SCALERS or _at(config, 'strategy.fp16.enabled')
    if half and trains and not frozen and not scaled:
        _warn(
            f'{", ".join(half)}: training in float16, without a scaled loss: gradients below its '
            'range are lost, which cost 1 to 3 points of mIoU (docs/gpu.md). Take bfloat16, which '
            'needs none, or optim_wrapper.type=AmpOptimWrapper on a GPU.'
        )
    asked = _asked(config, wrapper, 'bfloat16')
    if asked and device == 'cpu' and torch.backends.cpu.get_cpu_capability() in WITHOUT_BFLOAT16:
        _warn(
            f'{", ".join(asked)}: bfloat16, for which this processor has no instructions. PyTorch '
            'computes it value by value, tens of times as slowly as float32: leave it out here.'
        )
    if asked and device == 'cuda' and not torch.cuda.is_bf16_supported(including_emulation=False):
        major, minor = torch.cuda.get_device_capability()
        raise InvalidSettingError(
            f'{", ".join(asked)}: bfloat16, which {torch.cuda.get_device_name()} (compute '
            f'capability {major}.{minor}) does not have; GPUs from 8.0 on do. Use float16 or '
            'float32.'
        )


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)


def _asked(config: Config, wrapper: Mapping[str, Any], dtype: str) -> list[str]:
    """Settings that ask for this format."""
    paths = ('model.backbone.autocast', 'model.backbone.trunk.dtype')
    asked = {
        **{path: _at(config, path) for path in paths},
        'optim_wrapper.dtype': wrapper.get('dtype'),
        'optim_wrapper.type': 'bfloat16' if 'BFloat16' in str(wrapper.get('type')) else None,
        'strategy.bf16': 'bfloat16' if _at(config, 'strategy.bf16.enabled') else None,
    }
    return [name for name, value in asked.items() if value == dtype]


def _at(config: Config, path: str) -> Any:
    """The value at a place in a config, or None."""
    node: Any = config
    for part in path.split('.'):
        node = node.get(part) if isinstance(node, Mapping | Config) else None
    return node


def check_kind(path: Path, config: Config) -> None:
    """Check that a checkpoint is one that the config's strategy reads.

    DDP and :class:`FSDP2Strategy` write the same file, for any number of processes. DeepSpeed, and
    MMEngine's own FSDPStrategy unless it is told to gather, write a folder.

    Raises:
        CheckpointMismatchError: It is of another strategy, or of another stage of ZeRO.
    """
    name = strategy_of(config)
    files = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    if files and name == DEEPSPEED:
        stage = (config.strategy.get('zero_optimization') or {}).get('stage', 0)
        sharded = 'mp_rank_00_model_states.pt' not in files
        if sharded != (stage == 3):
            raise CheckpointMismatchError(
                f'{path} was saved in ZeRO stage {"3" if sharded else "2 or less"}; this run has '
                f'stage {stage} (evaluation: 0). Go on in the same stage, --cfg-options '
                'strategy.zero_optimization.stage=...; checkpoints of stage 3 are for that alone, '
                'and their runs are evaluated while they train.'
            )
    if path.is_dir() and name not in _FOLDERS:
        deepspeed = any('mp_rank' in file or 'zero_pp_rank' in file for file in files)
        other = 'DeepSpeed' if deepspeed else "MMEngine's FSDPStrategy"
        there = f'it holds {", ".join(files[:4]) or "nothing"}'
        raise CheckpointMismatchError(
            f'{path} is a folder of the shards of {other} ({there}); this run has {name}, which '
            'reads one file. Resume with the strategy that wrote it, or take a file that it '
            'gathered (best_*.pth, *.pth) as load_from.'
        )
    if path.is_file() and (name == DEEPSPEED or (name in _FOLDERS and config.get('resume'))):
        raise CheckpointMismatchError(
            f'{path} is a file, as DDP and FSDP2Strategy write it, and every strategy of the best '
            f'one; {name} reads a folder with the shards of each process. Take --strategy ddp or '
            'fsdp, or a folder (iter_*.pth, epoch_*.pth).'
        )


def check_optimizer(path: Path, state: Mapping[str, Any]) -> None:
    """Check that the optimiser's state in a checkpoint is by number, not by name.

    Raises:
        CheckpointMismatchError: MMEngine's FSDPStrategy wrote it.
    """
    named = [key for key in state.get('state', {}) if isinstance(key, str)]
    if named:
        raise CheckpointMismatchError(
            f"{path} has the optimiser's state by the names of parameters ({named[0]}, ...), as "
            "MMEngine's FSDPStrategy gathers it. Resume with that strategy, or start from the "
            'weights with --cfg-options load_from=...'
        )


def check_shares(name: str, shares: Sequence[tuple[int, int]], trains: bool) -> None:
    """Check what every process gets of a data set.

    Args:
        name: The data loader, for the message.
        shares: Samples of the whole data set and batches of this process, by rank.
        trains: Whether it is the training data.

    Raises:
        DataError: Different data on the processes, more processes than samples to train on, or a
            process with more batches than another, or with none.
    """
    sizes, batches = [size for size, _ in shares], [count for _, count in shares]
    if len(set(sizes)) > 1:
        raise DataError(
            f'{name}: the data set has {_by_rank(sizes)} samples, by process: they do not read the '
            'same files. Check that every machine has the whole data set below the same data_root.'
        )
    if trains and sizes[0] < len(shares):
        raise DataError(
            f'{name}: {sizes[0]} samples for {len(shares)} processes, so that some would repeat '
            f"the others' in every step. Start at most {sizes[0]} processes, or check the data set."
        )
    if len(set(batches)) > 1 or not batches[0]:
        raise DataError(
            f'{name}: {_by_rank(batches)} batches, by process. All must take as many steps, since '
            "they wait for each other. Set sampler=dict(type='DefaultSampler', shuffle=False): it "
            'fills up the last round with repeated samples, which the metrics leave out again '
            '(round_up=False does not).'
        )


def _by_rank(numbers: Sequence[int]) -> str:
    shown = ', '.join(map(str, numbers[:16]))
    return shown + (f', ... ({len(numbers)} processes)' if len(numbers) > 16 else '')
