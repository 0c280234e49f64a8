"""torchrun for ``tools/dist_*.sh``.

torchrun starts the processes, watches them, and ends all when one ends. What it does not give:

- machines that do not meet within a minute end, and say what to check; its own time-out
  (``--rdzv_conf timeout``, set here) is 10 minutes, and doubles on all machines but the first;
- the job ends with the exit status of the script (75 where a run was stopped and can go on), not
  with 1, and with what the script said, not with a traceback;
- arguments of the script that are wrong are told at once and once, not after the start of Python on
  every process.
"""

import argparse
import runpy
import socket
import sys
import time

from mmsigma.engine.distributed.wait_for_port import WAIT, wait_for_port


def parse_args() -> argparse.Namespace:
    """What ``tools/dist_*.sh`` say; the arguments of the script are those that it takes.

    torchrun has more options, but takes seconds to read them.
    """
    parser = argparse.ArgumentParser(description='Start a script once for each GPU.')
    parser.add_argument('--nnodes', default='1', help='number of machines')
    parser.add_argument('--node_rank', type=int, default=0, help="this machine's number, from 0")
    parser.add_argument('--master_addr', default='127.0.0.1', help='address of machine 0')
    parser.add_argument('--master_port', type=int, default=29500, help='a free port of machine 0')
    parser.add_argument('--nproc_per_node', default='1', help='number of GPUs of this machine')
    parser.add_argument('script', help='tools/train.py or tools/test.py')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='of the script')
    args = parser.parse_args()
    own, sys.argv = sys.argv, [args.script, *args.arguments]
    try:  # here it takes no time, and is said once
        runpy.run_path(args.script)['parse_args']()
    finally:
        sys.argv = own
    return args


def main() -> None:
    args = parse_args()

    from torch.distributed import DistNetworkError, DistStoreError, run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    end = time.monotonic() + WAIT
    try:
        if args.node_rank > 0:
            wait_for_port(args.master_addr, args.master_port, end)
        options = run.parse_args(None)
        options.rdzv_conf = f'timeout={max(1, int(end - time.monotonic()))}'
        run.run(options)
    except ChildFailedError as error:  # which has said why itself
        print(f'\n{error}', file=sys.stderr)
        sys.exit(max(1, error.get_first_failure()[1].exitcode))
    except SignalException as error:  # torchrun has passed it on to its processes
        print(f'\nEnded by signal {error.sigval.name}.', file=sys.stderr)
        sys.exit(128 + error.sigval)
    except (DistNetworkError, DistStoreError, OSError) as error:
        cause = str(error).strip().splitlines()[0].rstrip('.')
        print(
            f'\nerror: Machine {args.node_rank} of {args.nnodes}, {socket.gethostname()}, did not '
            f'meet the others at {args.master_addr}:{args.master_port} (it waits for {WAIT:.0f} s; '
            f'MMSIGMA_WAIT sets how long), or has lost them. Cause: {cause}. Check that the same '
            'command was started on all machines, each with its own NODE_RANK from 0, and with the '
            'same MASTER_ADDR (machine 0, as the others reach it) and PORT (free there, and open '
            'between the machines).',
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == '__main__':
    main()
