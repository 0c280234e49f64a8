"""merge.py: what it writes tests as the run it came from; bad input leaves nothing."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

from mmsigma.models.trunks.weights import loading as weight_files
from tests.fixtures import hashes, load
from tests.tiny import same

TUNERS = {
    'lora': dict(
        type='HFPeft', peft_type='LORA', r=2, lora_alpha=8, target_modules=['qkv', 'proj', 'fc1']
    ),
    'ssf': dict(type='SSF'),
    'full': dict(type='Full'),
    'lorand': dict(type='LoRand', rank=2),
    'sigma': dict(type='SIGMA', bottleneck=8, gate='static', scale='learned', position='both'),
}
LEFT = {'lora': 'Frozen', 'ssf': 'Frozen', 'full': 'Frozen', 'lorand': 'Adapter', 'sigma': 'SIGMA'}
EXTRA = """
model['backbone']['trunk'].update(final_norm={norm!r}, dtype={dtype!r})
model['backbone']['tuner'] = dict(_delete_=True, **{tuner!r})
optim_wrapper = dict(optimizer=dict(lr=5e-3))
"""


PLAIN = """
model['backbone'] = dict(_delete_=True, type='ResNetV1c', depth=18, norm_cfg=dict(type='BN'))
model['decode_head'].update(in_channels=512, in_index=-1, input_transform=None)
"""


def train(place, name, tuner, norm=True, dtype='float32'):
    """A config and the checkpoint of a run with it."""
    extra = EXTRA.format(tuner=tuner, norm=norm, dtype=dtype)
    config = place.config(extra, iters=4, interval=4)
    assert place.call('train', config, '--work-dir', name) == 0
    return config, place.root / name / 'iter_4.pth'


def metrics(place, config, checkpoint, name):
    """What tools/test.py measures."""
    assert place.call('test', config, checkpoint, '--work-dir', name) == 0
    files = [p for p in (place.root / name).glob('*/*.json') if p.stem == p.parent.name]
    found = json.loads(files[-1].read_text())
    return {key: value for key, value in found.items() if 'time' not in key}


def built(config, checkpoint):
    """The model of a config file, with the weights of a checkpoint, in eval mode."""
    model = MODELS.build(Config.fromfile(config).model)
    load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    return model.eval()


@pytest.mark.parametrize('name', TUNERS)
def test_the_folder_tests_as_the_run(name, place, capsys, monkeypatch):
    # Without the final norm the trunk lacks a tensor that its weight file must have.
    config, checkpoint = train(place, name, TUNERS[name], norm=name != 'lora')
    out = place.root / f'{name}-merged'
    capsys.readouterr()
    assert place.call('model_converters/merge', config, checkpoint, out) == 0
    said = capsys.readouterr().out
    assert f'{TUNERS[name]["type"]} -> {LEFT[name]}' in said and 'model.pth' in said
    if (
        name == 'lora'
    ):  # rank 2 in qkv, proj and fc1 of four blocks, and in the patch embedding's proj
        inside = 4 * 2 * (32 + 96 + 32 + 32 + 32 + 128)
        patches = 2 * (3 * 14 * 14 + 32)
        assert f'{inside + patches:,} -> 0 parameters' in said
    folded = LEFT[name] == 'Frozen'
    files = {'config.py', 'model.pth'} | ({'trunk.safetensors'} if folded else set())
    assert {p.name for p in out.iterdir()} == files
    moved = out.rename(place.root / f'{name}-moved')  # wherever the folder is
    before = metrics(place, config, checkpoint, f'{name}-before')
    assert 'mIoU' in before
    after = metrics(place, moved / 'config.py', moved / 'model.pth', f'{name}-after')
    assert after == pytest.approx(before, abs=1e-4)

    for key, value in place.env.items():
        monkeypatch.setenv(key, value)
    first, second = built(config, checkpoint), built(moved / 'config.py', moved / 'model.pth')
    x = torch.randn(2, 3, 45, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, other in zip(first.backbone(x), second.backbone(x), strict=True):
            assert torch.allclose(ours, other, rtol=0, atol=1e-5 * max(1, ours.abs().max()))
    assert type(second.backbone.tuner).__name__ == LEFT[name]
    text = (moved / 'config.py').read_text()
    assert load(moved / 'model.pth')['meta']['cfg'] == text
    assert 'work_dir' not in text and text.count('\ntuner') == text.count('\ntrunk') == 0
    if folded:
        names = weight_files.read(moved / 'trunk.safetensors').keys()
        assert names == weight_files.read(place.weights).keys()
        kept = [n for n in load(moved / 'model.pth')['state_dict'] if n.startswith('backbone')]
        assert kept == ['backbone._extra_state']


def test_half_precision_is_folded_in_float32(place, monkeypatch):
    config, checkpoint = train(place, 'half', TUNERS['lora'], dtype='bfloat16')
    out = place.root / 'half-merged'
    assert place.call('model_converters/merge', config, checkpoint, out) == 0
    assert Config.fromfile(out / 'config.py').model.backbone.trunk.dtype == 'bfloat16'
    weights = weight_files.read(out / 'trunk.safetensors')
    original = weight_files.read(place.weights)
    name = 'blocks.0.attn.qkv.weight'
    assert {v.dtype for v in weights.values()} == {torch.float32}
    assert torch.equal(weights['cls_token'], original['cls_token'])
    state = load(checkpoint)['state_dict']
    prefix = 'backbone.trunk.model.blocks.0.attn.qkv.lora_'
    a, b = (state[f'{prefix}{which}.default.weight'] for which in 'AB')
    assert b.any()
    assert torch.allclose(weights[name], original[name] + 4 * b @ a, rtol=0, atol=1e-6)
    for key, value in place.env.items():
        monkeypatch.setenv(key, value)
    first, second = built(config, checkpoint), built(out / 'config.py', out / 'model.pth')
    x = torch.randn(2, 3, 42, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, other in zip(first.backbone(x), second.backbone(x), strict=True):
            assert (ours - other).abs().mean() < 0.01 * ours.abs().mean()


@pytest.fixture(scope='module')
def run(place):
    """A good run of LoRA, and what there is afterwards."""
    place.good, place.last = train(place, 'good', TUNERS['lora'])
    return place


def refused(run, capsys, *arguments, words):
    """The tool says ``words`` and leaves everything as it was."""
    before = hashes(run.root)
    capsys.readouterr()
    assert run.call('model_converters/merge', *arguments) == 1
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    for word in words:
        assert word in error, f'{word!r} not in {error!r}'
    assert hashes(run.root) == before
    assert not [p for p in run.root.iterdir() if p.name.startswith('.')]


def test_a_folder_in_use_is_refused(run, capsys):
    out = run.root / 'used'
    out.mkdir()
    assert run.call('model_converters/merge', run.good, run.last, out) == 0  # an empty one will do
    refused(run, capsys, run.good, run.last, out, words=['used', 'config.py', 'Name another'])
    refused(run, capsys, run.good, run.last, run.good, words=[run.good.name, 'is a file'])


def test_what_does_not_merge(run, capsys):
    out = run.root / 'never'
    config, checkpoint = train(run, 'adapter', dict(type='Adapter', bottleneck=4))
    refused(run, capsys, config, checkpoint, out, words=['Adapter does not merge', 'GELU'])
    merged = run.root / 'twice'
    assert run.call('model_converters/merge', run.good, run.last, merged) == 0
    again = merged / 'config.py', merged / 'model.pth'
    refused(run, capsys, *again, out, words=['Frozen does not merge'])
    assert not out.exists()


def test_bad_config_and_checkpoint(run, capsys):
    out = run.root / 'never'
    refused(run, capsys, run.root / 'no.py', run.last, out, words=['no config', 'no.py'])
    missing = run.root / 'good/iter_9.pth'
    refused(run, capsys, run.good, missing, out, words=['iter_9.pth', 'iter_4.pth'])
    sigma = run.config()
    refused(run, capsys, sigma, run.last, out, words=['other adapter settings', 'HFPeft'])
    headless = run.root / 'headless.pth'
    state = load(run.last)['state_dict']
    torch.save({'state_dict': {k: v for k, v in state.items() if 'conv_seg' not in k}}, headless)
    refused(run, capsys, run.good, headless, out, words=['2 missing', 'conv_seg'])
    plain = run.config(PLAIN)
    refused(run, capsys, plain, run.last, out, words=['EncoderDecoder with 0 backbones'])
    assert not out.exists()


def test_a_failed_write_leaves_nothing(run, capsys, monkeypatch):
    from mmsigma.checkpoint import merged_model

    def full(*_):
        raise OSError('No space left on device')

    monkeypatch.setattr(merged_model, 'save_file', full)
    before = hashes(run.root)
    with pytest.raises(OSError, match='No space left'):
        run.call('model_converters/merge', run.good, run.last, run.root / 'never')
    assert hashes(run.root) == before
    assert not [p for p in run.root.iterdir() if p.name in ('never',) or p.name.startswith('.')]


def test_merging_is_deterministic(run):
    for name in ('one', 'two'):
        assert run.call('model_converters/merge', run.good, run.last, run.root / name) == 0
    one, two = (weight_files.read(run.root / name / 'trunk.safetensors') for name in ('one', 'two'))
    assert one.keys() == two.keys() and same(tuple(one.values()), tuple(two[k] for k in one))
