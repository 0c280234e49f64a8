"""Whether the machine of process 0 is there, and how long to wait for it.

PyTorch's ``TCPStore``, which torchrun uses, too, does not end at its time-out: with 6 s it tried a
closed port for 11.5 s and an unknown host for 13 s.
"""

import os
import socket
import time

# Seconds for all processes to be there, less than a minute together with the start. PyTorch waits
# for 30 minutes, which looks like a job that runs.
WAIT = float(os.environ.get('MMSIGMA_WAIT', 45))


def wait_for_port(address: str, port: int, end: float) -> None:
    """Wait until something listens there.

    Args:
        address: Name or address of the machine.
        port: The port there.
        end: Until when, as ``time.monotonic()`` counts.

    Raises:
        OSError: Nothing does; the last try's.
    """
    while True:
        try:
            socket.create_connection((address, port), max(1, end - time.monotonic())).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
