"""Runs several command lines one after the other in one process of a job: starting takes longest.

``python many.py '[["tools/train.py", "config.py", ...], ...]'``; a line ``=== begin TIME`` is
before each, and one ``=== end TIME status N`` behind.
"""

import json
import runpy
import sys
import time

from tests.processes import forget_runs


def run(arguments):
    """The exit status of one command line."""
    forget_runs()
    sys.argv = arguments
    try:
        runpy.run_path(arguments[0], run_name='__main__')
    except SystemExit as stop:
        return stop.code or 0
    return 0


if __name__ == '__main__':
    for arguments in json.loads(sys.argv[1]):
        print(f'=== begin {time.time()}', flush=True)
        status = run(arguments)
        sys.stderr.flush()
        print(f'=== end {time.time()} status {status}', flush=True)
