"""torchrun for ``tools/dist_*.sh``: machines that do not meet within a minute are told why."""

import socket
import sys
import time

from torch.distributed import DistNetworkError, DistStoreError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from mmsigma.reach import WAIT, reach


def main() -> None:
    args = parse_args(None)
    end = time.monotonic() + WAIT
    try:
        if args.node_rank > 0:
            reach(args.master_addr, args.master_port, end)
        args.rdzv_conf = f'timeout={max(1, int(end - time.monotonic()))}'
        run(args)
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
