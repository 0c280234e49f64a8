"""Runs several command lines one after the other in one process of a job: starting takes longest.

``python many.py '[["tools/train.py", "config.py", ...], ...]'``
"""

import json
import runpy
import sys
from unittest.mock import patch

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

if __name__ == '__main__':
    # Formatting a config takes longer than training on it.
    with patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)):
        for arguments in json.loads(sys.argv[1]):
            for shared in (*Visualizer.__subclasses__(), Visualizer, MessageHub, MMLogger):
                shared._instance_dict.clear()
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name='__main__')
