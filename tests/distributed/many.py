"""Runs several command lines one after the other in one process of a job: starting takes longest.

``python many.py '[["tools/train.py", "config.py", ...], ...]'``; a line ``=== begin TIME`` is
before each, and one ``=== end TIME status N`` behind.
"""

import gc
import importlib
import json
import runpy
import sys
import time
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


@contextmanager
def quick():
    """Without what takes most of so short a run and changes nothing of it."""
    with ExitStack() as stack:
        for target, substitute in (
            ('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)),
            ('mmengine.runner.runner.collect_env', dict),
            ('mmengine._strategy.base.collect_env', dict),
            ('os.fsync', lambda file: None),
        ):
            stack.enter_context(patch(target, substitute))
        gc.freeze()  # MMEngine collects garbage between steps
        yield


def run(arguments):
    """The exit status of one command line."""
    for shared in (*Visualizer.__subclasses__(), Visualizer, MessageHub, MMLogger):
        shared._instance_dict.clear()
    sys.argv = arguments
    try:
        runpy.run_path(arguments[0], run_name='__main__')
    except SystemExit as stop:
        return stop.code or 0
    return 0


if __name__ == '__main__':
    # What all of them import, before the clock starts: on a busy machine it takes most of a minute.
    for name in ('mmsigma.launch', 'mmseg.models', 'mmseg.datasets', 'mmsigma.backbone'):
        importlib.import_module(name)
    with quick():
        for arguments in json.loads(sys.argv[1]):
            print(f'=== begin {time.time()}', flush=True)
            status = run(arguments)
            sys.stderr.flush()
            print(f'=== end {time.time()} status {status}', flush=True)
