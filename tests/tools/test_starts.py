"""Tools answer at once, and import what a run needs and no more."""

import json
import os
import subprocess
import sys

import pytest

from tests.fixtures import ROOT

TOOLS = [
    str(path.relative_to(ROOT))
    for folder in (
        'tools',
        'tools/analysis_tools',
        'tools/dataset_converters',
        'tools/model_converters',
    )
    for path in sorted((ROOT / folder).glob('*.py'))
]
# Without what a tool needs, argparse speaks of that and not of what is misspelt.
NEEDED = {
    'tools/analysis_tools/benchmark.py': ['backbone'],
    'tools/report.py': ['records', '--markdown', 'page'],
    'tools/predict.py': ['--task', 'a', 'b', 'c', 'images', '--out', 'out'],
    'tools/dist_run.py': ['tools/train.py', 'config'],
}
HEAVY = ('torch', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'timm', 'numpy', 'PIL', 'matplotlib')
# Times that of `python -c 'import argparse'`, 0.05 s; tools take 2 to 6, and torch alone 50.
RATIO = 15

# Every command line in a fork of a bare Python, which is as good as a new one and takes no start.
FORKS = """
import contextlib, io, json, os, runpy, sys, time
start = time.process_time()
for words in json.loads(sys.argv[1]):
    if os.fork():
        os.wait()
        continue
    text, status = io.StringIO(), 0
    sys.argv, sys.path[0] = words, os.path.dirname(words[0])
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            runpy.run_path(words[0], run_name='__main__') if words[0] else __import__('argparse')
        except SystemExit as stop:
            status = stop.code
        except BaseException as error:
            status = repr(error)
    found = dict(status=status, text=text.getvalue(), seconds=start + time.process_time())
    print(json.dumps({**found, 'modules': [*sys.modules]}), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope='module')
def answers():
    """What each tool says to ``--help`` and to a misspelt option, and the time of argparse."""
    lines = [['']]
    for tool in TOOLS:
        lines += [[tool, '--help'], [tool, *NEEDED.get(tool, 'abc'), '--misspelt']]
    result = subprocess.run(
        [sys.executable, '-c', FORKS, json.dumps(lines)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0 and not result.stderr, result.stderr
    first, *found = map(json.loads, result.stdout.splitlines())
    pairs = zip(found[::2], found[1::2], strict=True)
    return first['seconds'], dict(zip(TOOLS, pairs, strict=True))


@pytest.mark.parametrize('tool', TOOLS)
def test_an_answer_at_once(answers, tool):
    unit, found = answers
    told, refused = found[tool]
    assert told['status'] == 0 and told['text'].startswith('usage: '), told
    assert refused['status'] == 2 and '--misspelt' in refused['text'].splitlines()[-1], refused
    for answer in (told, refused):
        assert set(HEAVY).isdisjoint(answer['modules'])
        assert answer['seconds'] < RATIO * unit


# A training, and then what it did without.
RUN = """
import copy, json, runpy, sys
runpy.run_path(sys.argv[0], run_name='__main__')
left_out = [name for name in ('mmdet', 'mmpretrain', 'transformers') if name not in sys.modules]
import torch
from mmengine.registry import OPTIMIZERS
from mmseg.models import Mask2FormerHead, MaskFormerHead
from mmseg.registry import MODELS
optimizer = OPTIMIZERS.build(dict(type='Adafactor', params=[torch.nn.Linear(2, 2).weight]))
copied = copy.deepcopy(Mask2FormerHead) is Mask2FormerHead
built = MODELS.get('Mask2FormerHead').__module__, copied, 'mmdet' in sys.modules
class Own(MaskFormerHead):
    pass
from mmdet.models import MaskFormerHead as Base
try:
    MODELS.build(dict(type='Mask2FormerHead', nothing=1))
except TypeError as error:
    refusal = str(error)
print(json.dumps([
    left_out, type(optimizer).__module__, built, issubclass(Own, Base),
    issubclass(MODELS.get('MaskFormerHead'), Base), isinstance(3, Mask2FormerHead), refusal,
    issubclass(MODELS.get('Mask2FormerHead'), torch.nn.Module),
]))
"""


@pytest.mark.slow
def test_a_run_imports_what_it_needs(place):
    tool, *words = place.command('train', place.config(iters=4), '--work-dir', 'run')
    code = f'import sys; sys.argv = {[tool, *words]!r}\n{RUN}'
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=place.root,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    left_out, optimizer, built, own, registered, instance, refusal, late = json.loads(
        result.stdout.splitlines()[-1]
    )
    assert left_out == ['mmdet', 'mmpretrain', 'transformers']
    # Whatever uses one of them later, by its name or as a class, gets it.
    assert optimizer.startswith('transformers.')
    assert built == ['mmseg.models.decode_heads.mask2former_head', True, False]
    assert own and registered and late
    assert not instance and 'Mask2FormerHead' in refusal
