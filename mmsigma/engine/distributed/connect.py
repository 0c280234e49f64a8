"""The processes of a job meet, and agree.

PyTorch, torchrun and MMEngine's ``init_dist`` do most of it. Here is what they do not give:

- **CPUs, MPICH, Intel MPI.** ``init_dist`` takes a GPU for each process, and knows Open MPI alone.
- **A time to meet of its own.** PyTorch has one time-out for this and for collectives: 30 minutes
  with gloo, 10 with NCCL. A process that cannot reach process 0 tries for twice the time-out, and
  waits for ever where something else listens at the port.
- **Who is missing.** PyTorch counts the processes that came, on process 0 alone.
- **Devices.** A group of NCCL on one process and of gloo on another hangs without a word, so they
  are compared before there is a group.
- **Agreement.** What one process refuses, all refuse: see :func:`agree`.

That a process or a machine is lost later is PyTorch's to notice (``dist_cfg.timeout``), and the
launcher's to end the others; here it gets words: :func:`lost_process`.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_distributed
from torch import distributed
from torch.distributed.constants import default_pg_timeout

from mmsigma.engine.distributed.devices import check_devices, device_name
from mmsigma.engine.distributed.wait_for_port import WAIT, wait_for_port
from mmsigma.errors import LaunchError, MMSigmaError

T = TypeVar('T')
PORT = '29500'
# Where launchers that are not torchrun say what torchrun says: Open MPI; MPICH, Intel MPI; SLURM.
_VARIABLES: dict[str, dict[str, tuple[str, ...]]] = {
    'mpi': {
        'RANK': ('OMPI_COMM_WORLD_RANK', 'PMI_RANK'),
        'WORLD_SIZE': ('OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'),
        'LOCAL_RANK': ('OMPI_COMM_WORLD_LOCAL_RANK', 'MPI_LOCALRANKID'),
    },
    'slurm': {
        'RANK': ('SLURM_PROCID',),
        'WORLD_SIZE': ('SLURM_NTASKS',),
        'LOCAL_RANK': ('SLURM_LOCALID',),
    },
}
_STARTERS = {
    'pytorch': 'bash tools/dist_train.sh CONFIG GPUS',
    'slurm': 'bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG',
    'mpi': 'mpirun -np PROCESSES python tools/train.py CONFIG --launcher mpi',
}


def set_environment(launcher: str) -> None:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun does.

    Raises:
        LaunchError: The process was not started by this launcher, or no address is known.
    """
    for name, sources in _VARIABLES.get(launcher, {}).items():
        for source in sources:
            if source in os.environ:
                os.environ[name] = os.environ[source]
                break
        else:
            raise _not_started(launcher, ' or '.join(sources))
    if launcher != 'pytorch':
        os.environ.setdefault('MASTER_PORT', PORT)
        if 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_machine(launcher)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        if not os.environ.get(name):
            raise _not_started(launcher, name)


def _not_started(launcher: str, name: str) -> LaunchError:
    return LaunchError(
        f'--launcher {launcher} was given, but the environment has no {name}, which that launcher '
        f'sets. Start with `{_STARTERS[launcher]}`, or leave --launcher out to use one process.'
    )


def _first_machine(launcher: str) -> str:
    """The address of process 0, where its machine is this one or SLURM knows it."""
    nodes = os.environ.get('SLURM_NODELIST', '')
    if launcher == 'slurm' and nodes and shutil.which('scontrol'):
        command = ['scontrol', 'show', 'hostname', nodes]
        names = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        if names:
            return names[0]
    local = os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE', os.environ.get('MPI_LOCALNRANKS'))
    if launcher == 'mpi' and local == os.environ['WORLD_SIZE']:
        return '127.0.0.1'
    raise LaunchError(
        'The job has several machines and MASTER_ADDR is not set: no process knows where process 0 '
        'is. Set MASTER_ADDR to the name or address of the machine of process 0 (and MASTER_PORT '
        f'to a port that is free there; {PORT} otherwise), with mpirun as `-x MASTER_ADDR=...`.'
    )


def connect(launcher: str, dist_cfg: Mapping[str, Any] | None = None) -> None:
    """Join the other processes of the job; nothing for ``none``, or when it is done already.

    Args:
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        dist_cfg: MMEngine's: ``backend`` (on CPUs always gloo) and ``timeout``, in seconds, of a
            collective operation, which is not the time for all to be there.

    Raises:
        LaunchError: Not all processes were there within a minute, they differ in their devices, or
            one has no GPU of its own.
    """
    device = get_device()
    if launcher == 'none' or is_distributed() or device not in ('cpu', 'cuda'):
        return  # MMEngine knows the other devices
    set_environment(launcher)
    settings = dict(dist_cfg or {})
    backend = settings.get('backend', 'nccl')
    options: dict[str, Any] = {}
    if settings.get('timeout') is not None:
        options['timeout'] = timedelta(seconds=settings['timeout'])
    if device == 'cuda':
        _take_gpu()
    else:
        backend = 'gloo'
    _meet(backend, options)


def _take_gpu() -> None:
    number, count = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if number >= count:
        raise LaunchError(
            f'Process {os.environ["RANK"]} is number {number} of machine {_host()}, '
            f'counted from 0, which has {count} GPUs. Start no more processes than GPUs on each '
            'machine, and check CUDA_VISIBLE_DEVICES.'
        )
    torch.cuda.set_device(number)


def _meet(backend: str, options: dict[str, Any]) -> None:
    """Join the process group within :data:`.wait_for_port.WAIT` seconds, or say who is missing."""
    rank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    end = time.monotonic() + 0.9 * WAIT  # a little less, to end by an exception if possible
    watch = threading.Timer(WAIT, _give_up)
    watch.daemon = True
    watch.start()
    try:
        if rank > 0:
            wait_for_port(address, port, end)
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            address,
            port,
            size,
            # torchrun has one already.
            is_master=rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True',
            timeout=timedelta(seconds=0.9 * WAIT),
            wait_for_workers=False,
            multi_tenant=True,
        )
        # Before there is a group: one of NCCL here and gloo there would hang.
        left = max(1.0, end - time.monotonic())
        said = _introduce(store, rank, size, f'{backend}\n{device_name()}', left)
        missing = [str(number) for number, words in enumerate(said) if not words]
        if missing:
            raise _apart(f'process {", ".join(missing)} did not come')
        backends, names = zip(*(words.split('\n') for words in said), strict=True)
        check_devices(names, backends)
        store.set_timeout(options.get('timeout', default_pg_timeout))
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, **options)
    except LaunchError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise _apart(str(error).strip().splitlines()[0]) from error
    finally:
        watch.cancel()


def _introduce(store: Any, rank: int, size: int, words: str, seconds: float) -> list[str]:
    """What each process says of itself, by rank; nothing of one that does not come in time.

    Process 0 decides who is there, and ends last: its end may be that of the store.
    """
    attempt = f'mmsigma/{os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")}'
    own, decided = [f'{attempt}/{number}' for number in range(size)], f'{attempt}/decided'
    store.set(own[rank], words)
    with suppress(distributed.DistStoreError):  # not in time
        store.wait(own if rank == 0 else [decided], timedelta(seconds=seconds))
    said = [store.get(key).decode() if store.check([key]) else '' for key in own]
    store.set(f'{own[rank]}/read', '')
    if rank == 0:
        store.set(decided, '')
        read = [f'{key}/read' for key, words in zip(own, said, strict=True) if words]
        with suppress(distributed.DistStoreError):
            store.wait(read, timedelta(seconds=0.05 * WAIT))
    return said


def _give_up() -> None:
    """End a process that waits for an answer that no exception will come of."""
    error = _apart('what listens there does not answer as process 0 would')
    print(f'\nerror: {error}', file=sys.stderr, flush=True)
    os._exit(error.status)


def _apart(cause: str) -> LaunchError:
    return LaunchError(
        f'Process {os.environ["RANK"]} of {os.environ["WORLD_SIZE"]} on {_host()} did not meet the '
        f'others at {os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]} (it waits for '
        f'{WAIT:.0f} s; MMSIGMA_WAIT sets how long). Cause: {cause.rstrip(".")}. Check that all '
        'processes were started, with the same address (MASTER_ADDR: the machine of process 0, as '
        'the others reach it) and the same port (PORT or MASTER_PORT: free there, and open between '
        'the machines).'
    )


def agree(check: Callable[[], T]) -> T:
    """Run a check on every process of the job; what one refuses, all refuse, and say which.

    A process that ended alone would leave the others waiting for it.

    Raises:
        MMSigmaError: What ``check`` raised here, or else on the first process that refused.
    """
    error: MMSigmaError | None = None
    try:
        result = check()
    except MMSigmaError as refused:
        error = refused
    if is_distributed() and get_world_size() > 1:
        found = all_gather_object(None if error is None else (type(error), str(error), _host()))
        refusals = [(rank, *each) for rank, each in enumerate(found) if each is not None]
        alone = len({str(each[2]) for each in refusals}) > 1 or len(refusals) < len(found)
        if refusals and alone:
            own = [each for each in refusals if each[0] == get_rank()]
            rank, kind, text, host = (own or refusals)[0]
            raise kind(f'Process {rank} of {len(found)}, on {host}: {text}') from error
    if error is not None:
        raise error
    return result


def _host() -> str:
    return socket.gethostname()


def lost_process(error: BaseException) -> LaunchError | None:
    """What to say of an error that comes from the end of another process, or None."""
    text = str(error)
    kinds = (distributed.DistBackendError, distributed.DistNetworkError)
    if not isinstance(error, kinds) and 'gloo/transport' not in text:
        return None
    rank = os.environ.get('RANK', '?')
    return LaunchError(
        f'Process {rank} on {_host()} lost its connection to another process of the job '
        f'({text.strip().splitlines()[0][-160:]}). That one has ended: its own last lines, or the '
        'report of the launcher, say why (SIGKILL is often a lack of memory). What was saved '
        'before is whole; go on with --resume, on any number of processes.'
    )
