"""What a stranger puts into a checkpoint does not run."""

import argparse
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmsigma.checkpoint import safe_loading
from mmsigma.errors import CheckpointMismatchError
from tests.fixtures import Workplace


class Stranger:
    """Makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp('safe'))


@pytest.fixture(scope='module')
def trained(place):
    """A config, its checkpoint, and a copy of that with something that runs."""
    config = place.config('param_scheduler = []\n', iters=2, interval=2)
    assert place.call('train', config, '--work-dir', 'run') == 0
    path = place.root / 'run/iter_2.pth'
    content = safe_loading.read(path)
    content['meta']['note'] = Stranger(place.root / 'touched')
    torch.save(content, place.root / 'strange.pth')
    return config, path, place.root / 'strange.pth'


def test_ours_hold_nothing_that_runs(trained):
    assert {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'} == set(
        safe_loading.read(trained[1])
    )


@pytest.mark.parametrize('archive', [True, False])
@pytest.mark.parametrize('what', [Stranger, argparse.Namespace])
def test_more_than_values_is_refused_by_name(tmp_path, archive, what):
    made = Stranger(tmp_path / 'touched') if what is Stranger else argparse.Namespace(a=1)
    path = tmp_path / 'strange.pth'
    torch.save({'state_dict': {}, 'x': made}, path, _use_new_zipfile_serialization=archive)
    name = 'Path' if what is Stranger else 'argparse.Namespace'
    with pytest.raises(CheckpointMismatchError, match=rf'would run .*{name}.*--trust-checkpoint'):
        safe_loading.read(path)
    assert not (tmp_path / 'touched').exists()
    assert 'x' in safe_loading.read(path, trust=True)
    assert (tmp_path / 'touched').exists() == (what is Stranger)


@pytest.mark.parametrize('content', [b'', b'PK', b'<html>', None])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, content, trained):
    path = tmp_path / 'broken.pth'
    path.write_bytes(trained[1].read_bytes()[:-100] if content is None else content)
    with pytest.raises(CheckpointMismatchError, match=r'broken\.pth .*cannot be read as a check'):
        safe_loading.read(path)


PHOTOS = 'data/camvid/img_dir/test'
TOOLS = {
    'test': lambda config, path: ['test', config, path, '--work-dir', 'tested'],
    'load_from': lambda config, path: [
        'train', config, '--work-dir', 'new', '--cfg-options', f'load_from={path}',
    ],
    'resume': lambda config, path: ['train', config, '--work-dir', 'new', '--resume', path],
    'export': lambda config, path: ['model_converters/export_adapter', path, 'adapters'],
    'merge': lambda config, path: ['model_converters/merge', config, path, 'merged.pth'],
    'predict': lambda config, path: ['predict', '--task', 'a', config, path, PHOTOS, '--out', 'o'],
}  # fmt: skip


@pytest.mark.parametrize('tool', TOOLS)
def test_no_tool_runs_it(place, trained, capfd, tool):
    config, _, strange = trained
    assert place.call(*TOOLS[tool](config, strange)) == 1
    assert '--trust-checkpoint' in ''.join(capfd.readouterr())
    assert not (place.root / 'touched').exists()


def test_one_that_is_trusted_is_read(place, trained, capfd):
    config, _, strange = trained
    assert place.call(*TOOLS['test'](config, strange), '--trust-checkpoint') == 0
    assert 'is trusted' in ''.join(capfd.readouterr())
    assert (place.root / 'touched').exists()
    (place.root / 'touched').unlink()
    safe_loading.trust_all(False)
    with pytest.raises(CheckpointMismatchError):  # by way of MMEngine, too
        CheckpointLoader.load_checkpoint(str(strange), map_location='cpu')
