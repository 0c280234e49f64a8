"""tools/train.py and tools/test.py, from the command line to the files they leave."""

import re

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from tests.fixtures import COUNTS, TINY, load, logged

EMA = "\ncustom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.5)]\n"
TRUNK_END = """
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SaveTrunk(Hook):
    def after_train(self, runner):
        torch.save(runner.model.backbone.trunk.model.state_dict(), 'trunk_after.pt')
"""
WITH_SAVE_TRUNK = """
custom_imports = dict(imports=['mmsigma', 'save_trunk'], allow_failed_imports=False)
custom_hooks = [dict(type='SaveTrunk'), *_base_.custom_hooks]
"""


@pytest.fixture(scope='module')
def run(place):
    """One run of the real leaf at tiny sizes, from the command line."""
    (place.root / 'save_trunk.py').write_text(TRUNK_END)
    place.run_config = place.config(WITH_SAVE_TRUNK, draw=True)
    place.run_dir = place.root / 'run'
    place.result = place.spawn(
        'train', place.run_config, '--work-dir', 'run', PYTHONPATH=str(place.root)
    )
    assert place.result.returncode == 0, place.result.stderr
    place.best = next(place.run_dir.glob('best_mIoU_*.pth'))
    return place


def test_it_trains_and_evaluates(run):
    losses, scores = logged(run.run_dir), logged(run.run_dir, 'mIoU')
    assert list(losses) == list(range(1, 9))
    assert min(losses[7], losses[8]) < 0.95 * losses[1]
    assert set(scores) == {4, 8}
    # The test split, once, at the end.
    tested = re.findall(r'Iter\(test\) \[(\d+)/\d+\].*mIoU: (\S+)', run.result.stdout)
    assert [int(n) for n, _ in tested] == [COUNTS['test']]


def test_it_leaves_checkpoints_of_what_trains(run):
    assert (run.run_dir / 'last_checkpoint').read_text() == str(run.run_dir / 'iter_8.pth')
    assert {p.name for p in run.run_dir.glob('iter_*')} == {'iter_4.pth', 'iter_8.pth'}
    checkpoint = load(run.run_dir / 'iter_8.pth')
    names = set(checkpoint['state_dict'])
    assert {n.split('.')[0] for n in names} == {'backbone', 'decode_head'}
    assert 'backbone._extra_state' in names
    assert not [n for n in names if n.startswith('backbone.trunk.')]
    trained = [n for n in names if n.startswith('backbone.adapters.')]
    assert len(trained) > 4 * TINY['depth']
    buffers = ('_extra_state', 'running_mean', 'running_var', 'num_batches_tracked')
    parameters = [n for n in names if not n.endswith(buffers)]
    assert len(checkpoint['optimizer']['state']) == len(parameters)
    assert 'optimizer' not in load(run.best)
    trunk = sum(v.numel() for v in load_file(run.weights).values())
    saved = sum(v.numel() for v in checkpoint['state_dict'].values())
    assert saved < trunk


def test_the_trunk_is_untouched(run):
    before = load_file(run.weights)
    after = load(run.root / 'trunk_after.pt')
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_adapters_have_learnt(run):
    first = load(run.run_dir / 'iter_4.pth')['state_dict']
    last = load(run.run_dir / 'iter_8.pth')['state_dict']
    name = 'backbone.adapters.at.0.after_block.up.weight'
    assert first[name].abs().max() > 0
    assert not torch.equal(first[name], last[name])


def test_it_draws_predictions(run):
    pictures = [p.name for p in run.run_dir.glob('*/vis_data/vis_image/*.png')]
    assert sum(n.startswith('val_') for n in pictures) == 2 * COUNTS['val']
    # The final test draws none: that takes a second an image.
    assert not any(n.startswith('test_') for n in pictures)


def test_the_config_it_leaves_can_be_used(run):
    left = run.run_dir / run.run_config.name
    left, given = (
        Config.fromfile(path, import_custom_modules=False) for path in (left, run.run_config)
    )
    assert left.model.backbone.tuner == given.model.backbone.tuner
    assert left.train_cfg == given.train_cfg


@pytest.fixture(scope='module')
def tested(run):
    """The checkpoints of the run, tested from the command line."""
    results = {}
    # Tested on the validation split, so that the metric must be the one of training.
    split = [
        'test_dataloader.dataset.data_prefix.img_path=img_dir/val',
        'test_dataloader.dataset.data_prefix.seg_map_path=ann_dir/val',
    ]
    before = (run.run_dir / run.run_config.name).read_bytes()
    result = run.spawn(
        'test', run.run_config, run.best, '--work-dir', 'run', '--show-dir', 'shown',
        '--cfg-options', *split, PYTHONPATH=str(run.root),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    results['metric'] = float(re.findall(r' mIoU: (\S+)', result.stdout)[-1])
    results['config untouched'] = (run.run_dir / run.run_config.name).read_bytes() == before
    return results


def test_testing_gives_the_metric_of_training(run, tested):
    step = int(re.findall(r'iter_(\d+)', run.best.name)[0])
    assert tested['metric'] == pytest.approx(logged(run.run_dir, 'mIoU')[step], abs=1e-4)


def test_testing_leaves_the_run_as_it_is(run, tested):
    assert tested['config untouched']


def test_show_dir(run, tested):
    shown = list((run.root / 'shown').rglob('test_*.png'))
    assert len(shown) == COUNTS['val']


# --- Other ways to start: load_from, EMA, the other tuners ----------------------------------


def test_load_from(run):
    """Weights come from the file, the schedule starts anew."""
    config = run.config(iters=4, interval=2)
    code = run.call(
        'train', config, '--work-dir', 'loaded', '--cfg-options',
        f'load_from={run.run_dir}/iter_8.pth', 'optim_wrapper.optimizer.lr=0.0',
        'optim_wrapper.optimizer.weight_decay=0.0',
    )  # fmt: skip
    assert code == 0
    start, end = (
        load(path)['state_dict']
        for path in (run.run_dir / 'iter_8.pth', run.root / 'loaded/iter_4.pth')
    )
    assert min(logged(run.root / 'loaded')) == 1
    weights = [n for n, v in start.items() if v.is_floating_point() and 'running' not in n]
    assert weights
    assert all(torch.equal(start[n], end[n]) for n in weights)


def test_ema(run):
    """Trains, saves the average beside the weights, resumes both, and tests the average."""
    config = run.config(EMA)
    arguments = (config, '--work-dir', 'ema', '--cfg-options')
    assert run.call('train', *arguments, 'train_cfg.max_iters=4') == 0
    first = load(run.root / 'ema/iter_4.pth')
    name = 'decode_head.conv_seg.weight'
    averaged, raw = first['state_dict'][name], first['ema_state_dict'][f'module.{name}']
    assert not torch.equal(averaged, raw)
    assert not [n for n in first['ema_state_dict'] if 'backbone.trunk.' in n]

    assert run.call('train', *arguments[:-1], '--resume') == 0
    whole = run.config(EMA)
    assert run.call('train', whole, '--work-dir', 'ema_whole') == 0
    resumed, uninterrupted = (load(run.root / f'{d}/iter_8.pth') for d in ('ema', 'ema_whole'))
    for part in ('state_dict', 'ema_state_dict'):
        assert resumed[part].keys() == uninterrupted[part].keys()
        assert all(torch.equal(v, uninterrupted[part][n]) for n, v in resumed[part].items())
    assert run.call('test', config, run.root / 'ema/iter_8.pth', '--work-dir', 'ema_test') == 0


@pytest.mark.parametrize('tuner', ['Frozen', 'Full'])
def test_other_tuners_train_save_and_test(run, tuner):
    extra = f"\nmodel['backbone']['tuner'] = dict(_delete_=True, type={tuner!r})\n"
    config = run.config(extra, iters=4)
    assert run.call('train', config, '--work-dir', tuner) == 0
    path = run.root / tuner / 'iter_4.pth'
    trunk = [n for n in load(path)['state_dict'] if n.startswith('backbone.trunk.')]
    assert len(trunk) == (len(load_file(run.weights)) if tuner == 'Full' else 0)
    assert run.call('test', config, path, '--work-dir', f'{tuner}_test') == 0


def test_a_random_trunk_trains_to_the_end(run):
    """The final test of a run is one of the trunk it trained on, so random weights are no error."""
    config = run.config(iters=4)
    random = 'model.backbone.trunk.weights=random'
    assert run.call('train', config, '--work-dir', 'random', '--cfg-options', random) == 0
    assert (run.root / 'random/iter_4.pth').is_file()


@pytest.mark.parametrize('given', ['OptimWrapper', 'AmpOptimWrapper'])
def test_amp_on_a_cpu_is_bfloat16(run, monkeypatch, given):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    extra = "\noptim_wrapper['loss_scale'] = 'dynamic'\n" if given == 'AmpOptimWrapper' else ''
    config = run.config(f"{extra}\noptim_wrapper['type'] = '{given}'\n")
    assert run.call('train', config, '--amp', '--work-dir', f'amp-{given}') == 0
    exact, low = logged(run.run_dir), logged(run.root / f'amp-{given}')
    assert list(low) == list(exact)
    assert low != exact
    assert low[1] == pytest.approx(exact[1], rel=2e-2)
    state = load(run.root / f'amp-{given}/iter_8.pth')['state_dict']
    assert {v.dtype for n, v in state.items() if 'adapters' in n} == {torch.float32}
