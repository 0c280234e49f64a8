"""What cannot work is refused with the cause and what to do; see also test_refusals.py."""

import os
import signal
import sys
import types

import dist_run  # tools/dist_run.py
import pytest
import torch
from mmengine.config import Config
from torch import distributed
from torch.distributed.elastic.multiprocessing.api import SignalException

from mmsigma.engine import launch
from mmsigma.engine.distributed import checks, connect, devices, strategies
from mmsigma.errors import (
    CheckpointMismatchError,
    DataError,
    InvalidSettingError,
    LaunchError,
    UnknownNameError,
)
from tests.fixtures import ROOT

LEAF = ROOT / 'configs/camvid/sigma_dinov2-s_fcn_camvid-308x224.py'


def config(strategy=None, **options):
    return Config(dict(launcher='pytorch', strategy=strategy, **options))


# Environments of launchers ------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """No launcher's variables; what is set is taken back."""
    names = [n for group in connect._VARIABLES.values() for v in group.values() for n in v]
    names += ['RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'SLURM_NODELIST']
    for name in [*names, 'OMPI_COMM_WORLD_LOCAL_SIZE', 'MPI_LOCALNRANKS']:
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    return monkeypatch


def test_open_mpi_on_one_machine(environment):
    for name, value in dict(RANK=3, SIZE=4, LOCAL_RANK=3, LOCAL_SIZE=4).items():
        environment.setenv(f'OMPI_COMM_WORLD_{name}', str(value))
    connect.set_environment('mpi')
    found = {n: os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')}
    assert found == dict(RANK='3', WORLD_SIZE='4', LOCAL_RANK='3', MASTER_ADDR='127.0.0.1')


def test_mpich_on_several_machines_needs_an_address(environment):
    for name, value in dict(PMI_RANK=5, PMI_SIZE=8, MPI_LOCALRANKID=1, MPI_LOCALNRANKS=4).items():
        environment.setenv(name, str(value))
    with pytest.raises(LaunchError, match='several machines and MASTER_ADDR is not set'):
        connect.set_environment('mpi')
    environment.setenv('MASTER_ADDR', 'node7')
    connect.set_environment('mpi')
    assert (os.environ['RANK'], os.environ['LOCAL_RANK']) == ('5', '1')
    assert os.environ['MASTER_PORT'] == '29500'


def test_slurm_asks_for_the_first_machine(environment, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname n[3-4]" ] && printf "n3\\nn4\\n"\n')
    scontrol.chmod(0o755)
    environment.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    for name, value in dict(PROCID=9, NTASKS=16, LOCALID=1, NODELIST='n[3-4]').items():
        environment.setenv(f'SLURM_{name}', str(value))
    connect.set_environment('slurm')
    assert (os.environ['MASTER_ADDR'], os.environ['RANK']) == ('n3', '9')


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_that_did_not_start_the_process(environment, launcher):
    with pytest.raises(LaunchError, match=f'--launcher {launcher} was given, but the environment'):
        connect.set_environment(launcher)


def test_more_processes_than_gpus(environment):
    for name in ('RANK', 'LOCAL_RANK'):
        environment.setenv(name, '4')
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    with pytest.raises(LaunchError, match=r'is number 4 of machine .* which has 4 GPUs'):
        connect._take_gpu()


def test_lost_processes():
    gloo = RuntimeError('[../third_party/gloo/gloo/transport/tcp/pair.cc:5] Connection closed')
    assert 'lost its connection' in str(connect.lost_process(gloo))
    assert connect.lost_process(distributed.DistBackendError('NCCL error: remote process exited'))
    assert connect.lost_process(RuntimeError('CUDA out of memory')) is None


# Checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('shares', 'trains', 'message'),
    [
        ([(6, 3), (4, 2)], True, '6, 4 samples, by process: they do not read the same files'),
        ([(3, 1)] * 4, True, '3 samples for 4 processes'),
        ([(5, 3), (5, 2)], False, '3, 2 batches, by process'),
        ([(1, 1), (1, 0)], False, '1, 0 batches, by process'),
        ([(0, 0), (0, 0)], False, '0, 0 batches, by process'),
    ],
)
def test_shares_of_the_data(shares, trains, message):
    with pytest.raises(DataError, match=message):
        checks.check_shares('some_dataloader', shares, trains)


def test_fewer_samples_than_processes_may_be_evaluated():
    checks.check_shares('val_dataloader', [(1, 1), (1, 1)], trains=False)


def test_mixed_gpus(monkeypatch):
    names = ['A100', 'A100', 'V100']
    with pytest.raises(LaunchError, match='A100: process 0, 1; V100: process 2'):
        devices.check_devices(names)
    with pytest.raises(LaunchError, match=r'process 0, 1, .*, 7, ... \(9 in all\); V100'):
        devices.check_devices(['A100'] * 9 + ['V100'])
    devices.check_devices(names[:2], ['nccl'] * 2)
    monkeypatch.setenv(devices.MIXED, '1')
    devices.check_devices(names)
    with pytest.raises(LaunchError, match=r'A100 \(nccl\): process 0; cpu \(gloo\): process 1'):
        devices.check_devices(['A100', 'cpu'], ['nccl', 'gloo'])


FROZEN = dict(type='Frozen')


def test_precision_of_a_cpu():
    amp = config(optim_wrapper=dict(type='AmpOptimWrapper'))
    with pytest.raises(InvalidSettingError, match='BFloat16OptimWrapper'):
        checks.check_precision(amp)
    checks.check_precision(amp, trains=False)
    checks.check_precision(config(optim_wrapper=dict(type='mmsigma.BFloat16OptimWrapper')))


@pytest.mark.parametrize(('capability', 'lines'), [('AVX2', 1), ('AVX512', 0), ('SVE256', 0)])
def test_slow_bfloat16_is_said(capability, lines, monkeypatch):
    said = []
    monkeypatch.setattr(checks, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr(checks.torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    checks.check_precision(config())
    checks.check_precision(config(model=dict(backbone=dict(autocast='float16'))), trains=False)
    assert not said
    checks.check_precision(config(model=dict(backbone=dict(autocast='bfloat16'))))
    assert len(said) == lines
    assert all('model.backbone.autocast: bfloat16, for which this' in text for text in said)


@pytest.mark.parametrize('setting', [dict(autocast='float16'), dict(trunk=dict(dtype='float16'))])
def test_float16_without_a_scaled_loss_is_said(setting, monkeypatch):
    said = []
    monkeypatch.setattr(checks, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr(checks, 'get_device', lambda: 'cuda')
    backbone = dict(tuner=dict(type='SIGMA'), **setting)
    model, frozen = (dict(backbone={**backbone, **new}) for new in ({}, dict(tuner=FROZEN)))
    checks.check_precision(config(model=model), trains=False)
    checks.check_precision(config(model=frozen))
    checks.check_precision(config(model=model, optim_wrapper=dict(type='AmpOptimWrapper')))
    checks.check_precision(config(model=model, strategy=dict(type='x', fp16=dict(enabled=True))))
    assert not said
    checks.check_precision(config(model=model, optim_wrapper=dict(type='OptimWrapper')))
    (text,) = said
    assert 'AmpOptimWrapper' in text
    assert text.startswith(f'model.backbone.{"trunk.dtype" if "trunk" in setting else "autocast"}:')


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(model=dict(backbone=dict(autocast='bfloat16'))), 'model.backbone.autocast'),
        (dict(model=dict(backbone=dict(trunk=dict(dtype='bfloat16')))), 'trunk.dtype'),
        (dict(optim_wrapper=dict(dtype='bfloat16')), 'optim_wrapper.dtype'),
        (dict(optim_wrapper=dict(type='mmsigma.BFloat16OptimWrapper')), 'optim_wrapper.type'),
        (dict(strategy=dict(type='x', bf16=dict(enabled=True))), 'strategy.bf16'),
    ],
)
def test_bfloat16_on_an_old_gpu(options, named, monkeypatch):
    monkeypatch.setattr(checks, 'get_device', lambda: 'cuda')
    old = types.SimpleNamespace(
        is_bf16_supported=lambda including_emulation: False,
        get_device_capability=lambda: (7, 0),
        get_device_name=lambda: 'V100',
    )
    monkeypatch.setattr(checks.torch, 'cuda', old)
    with pytest.raises(InvalidSettingError, match=f'{named}: bfloat16, which V100'):
        checks.check_precision(config(**options))
    checks.check_precision(config(model=dict(backbone=dict(autocast='float16'))))


def test_checkpoints_of_another_strategy(tmp_path):
    folder, file = tmp_path / 'iter_4.pth', tmp_path / 'iter_6.pth'
    folder.mkdir()
    (folder / 'mp_rank_00_model_states.pt').touch()
    torch.save({'state_dict': {}, 'optimizer': {'state': {'a.weight': {}}}}, file)
    deepspeed = config(dict(type='DeepSpeedStrategy'), resume=True)
    with pytest.raises(CheckpointMismatchError, match=r'shards of DeepSpeed .* this run has DDP'):
        launch.check_checkpoint(folder, config(resume=True))
    launch.check_checkpoint(folder, deepspeed)
    for resume in (True, False):
        deepspeed.resume = resume
        with pytest.raises(CheckpointMismatchError, match='is a file, as DDP and FSDP2Strategy'):
            launch.check_checkpoint(file, deepspeed)
    deepspeed.strategy.zero_optimization = dict(stage=3)
    with pytest.raises(CheckpointMismatchError, match='ZeRO stage 2 or less; this run has stage 3'):
        launch.check_checkpoint(folder, deepspeed)
    strategies.prepare_evaluation(deepspeed)
    launch.check_checkpoint(folder, deepspeed)
    (folder / 'mp_rank_00_model_states.pt').rename(folder / 'zero_pp_rank_0_mp_rank_00.pt')
    with pytest.raises(CheckpointMismatchError, match='ZeRO stage 3; this run has stage 0'):
        launch.check_checkpoint(folder, deepspeed)
    with pytest.raises(CheckpointMismatchError, match=r'by the names of parameters \(a.weight'):
        launch.check_checkpoint(file, config(resume=True))
    launch.check_checkpoint(file, config())


@pytest.mark.parametrize('name', ['ddp', 'fsdp', 'deepspeed'])
def test_runtime_configs_go_over_any_leaf(name):
    merged = Config.fromfile(LEAF)
    strategies.merge(merged, name)
    based = Config.fromstring(
        f"_base_ = ['{LEAF}', '{ROOT}/configs/_base_/runtime/{name}.py']", file_format='.py'
    )
    assert merged.to_dict() == based.to_dict()
    assert checks.strategy_of(merged) == {
        'ddp': 'DDP', 'fsdp': 'FSDP2Strategy', 'deepspeed': 'DeepSpeedStrategy'
    }[name]  # fmt: skip


def test_deepspeed_takes_the_settings_of_the_leaf():
    merged = Config.fromfile(LEAF)
    strategies.merge(merged, 'deepspeed')
    merged.launcher = 'pytorch'
    merged.optim_wrapper.accumulative_counts = 2
    strategies.prepare(merged)
    assert merged.optim_wrapper.type == 'DeepSpeedOptimWrapper'
    assert 'clip_grad' not in merged.optim_wrapper
    assert merged.strategy.gradient_clipping == 1.0
    assert merged.strategy.gradient_accumulation_steps == 2
    assert merged.strategy.exclude_frozen_parameters is True


def test_deepspeed_that_mmengine_cannot_use(monkeypatch):
    monkeypatch.setattr(checks, 'find_spec', lambda name: True)
    monkeypatch.setattr(checks, 'version', lambda name: '0.19.8')
    monkeypatch.setitem(sys.modules, 'deepspeed', None)
    with pytest.raises(InvalidSettingError, match=r'onebit, which deepspeed 0.19.8 does not have'):
        checks.check_strategy(config(dict(type='DeepSpeedStrategy')))
    monkeypatch.setattr(checks, 'import_module', lambda name: None)
    checks.check_strategy(config(dict(type='DeepSpeedStrategy')))
    int8 = dict(backbone=dict(trunk=dict(dtype='int8')))
    with pytest.raises(InvalidSettingError, match=r"trunk.dtype='int8': DeepSpeed does not take"):
        checks.check_strategy(config(dict(type='DeepSpeedStrategy'), model=int8))


def test_strategies_that_cannot_start(monkeypatch):
    deepspeed = config(dict(type='DeepSpeedStrategy'))
    monkeypatch.setitem(sys.modules, 'deepspeed', None)
    monkeypatch.setattr(checks, 'find_spec', lambda name: None)
    with pytest.raises(InvalidSettingError, match=r"pip install 'deepspeed<0.19.7'"):
        checks.check_strategy(deepspeed)
    single = config(dict(type='mmsigma.FSDP2Strategy'))
    checks.check_strategy(single)
    for name in ('mmsigma.FSDP2Strategy', 'DeepSpeedStrategy'):
        compiled = config(dict(type=name), model=dict(backbone=dict(compile=True)))
        with pytest.raises(InvalidSettingError, match='in compiled blocks no layer is'):
            checks.check_strategy(compiled)
    checks.check_strategy(config(model=dict(backbone=dict(compile=True))))
    single.launcher = 'none'
    with pytest.raises(InvalidSettingError, match='shards over the processes'):
        checks.check_strategy(single)
    with pytest.raises(UnknownNameError, match=r"Unknown strategy 'fdsp'. Did you mean 'fsdp'"):
        strategies.merge(Config.fromfile(LEAF), 'fdsp')


def test_torchrun_that_is_ended_by_a_signal(monkeypatch, capsys):
    def ended(args):
        raise SignalException('Process 1 got signal: 15', sigval=signal.SIGTERM)

    monkeypatch.setattr('torch.distributed.run.run', ended)
    monkeypatch.setattr(sys, 'argv', ['dist_run.py', str(ROOT / 'tools/train.py'), 'config.py'])
    with pytest.raises(SystemExit) as stop:
        dist_run.main()
    assert stop.value.code == 143 and capsys.readouterr().err == '\nEnded by signal SIGTERM.\n'
