"""Which settings go on after an early validation."""

import json
import math

import pytest
from mmengine.config import Config

from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import halving
from mmsigma.experiments.grid import Run

CONFIG = Config({'train_cfg': {'max_iters': 600, 'val_interval': 200}})


def runs(method, rates, seed=0):
    return [Run(method, rate, seed, CONFIG) for rate in rates]


def names(chosen):
    return [run.name for run in chosen]


def test_the_better_half_of_each_method_goes_on():
    sigma, lora, late = runs('sigma', [1, 2, 3]), runs('lora', [1, 2]), runs('late', [1, 2])
    values = [30.0, math.nan, 50.0, 99.0, 98.0, 97.0]
    scores = dict(zip(names([*sigma, *lora, *late]), values, strict=False))
    on, out, early = halving.choose([*sigma, *lora, *late], scores, 'mIoU')
    assert names(on) == ['sigma_lr3_seed0', 'sigma_lr1_seed0', 'lora_lr1_seed0']
    assert names(out) == ['sigma_lr2_seed0', 'lora_lr2_seed0']
    assert early == late  # the second setting has no score yet
    on, _, _ = halving.choose(lora, scores, 'rmse')
    assert names(on) == ['lora_lr2_seed0']


def test_seeds_are_halved_by_themselves():
    both = [*runs('a', [1, 2]), *runs('a', [1, 2], seed=1)]
    on, _, _ = halving.choose(both, dict(zip(names(both), (1, 2, 4, 3), strict=True)), 'mIoU')
    assert names(on) == ['a_lr2_seed0', 'a_lr1_seed1']


def test_scores_are_of_that_step_alone(tmp_path):
    first, second = runs('a', [1, 2])
    for run, lines in ((first, [(200, 40.0), (400, 60.0)]), (second, [(400, 50.0)])):
        folder = tmp_path / run.name / '20260101_000000/vis_data'
        folder.mkdir(parents=True)
        text = '\n'.join(json.dumps({'mIoU': value, 'step': step}) for step, value in lines)
        (folder / 'scalars.json').write_text(text)
    on, lines = halving.apply([first, second], [first, second], tmp_path, 'mIoU', [200])
    assert on == [] and 'after step 200' in lines[0]  # of the second there is none yet
    on, _ = halving.apply([first, second], [first, second], tmp_path, 'mIoU', [400])
    assert on == [first]


def test_halved_twice_a_quarter_is_left(tmp_path):
    grid = runs('a', [1, 2, 3, 4])
    for run, first, second in zip(grid, (4, 3, 2, 1), (5, 6, 99, 99), strict=True):
        folder = tmp_path / run.name / '20260101_000000/vis_data'
        folder.mkdir(parents=True)
        lines = [{'mIoU': first, 'step': 200}, {'mIoU': second, 'step': 400}]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    on, lines = halving.apply(grid, grid, tmp_path, 'mIoU', [200, 400])
    assert names(on) == ['a_lr2_seed0']  # not one of those that would have come back
    assert [line.split()[4] for line in lines] == ['a_lr3_seed0', 'a_lr4_seed0', 'a_lr1_seed0']
    assert halving.apply(grid, grid[:1], tmp_path, 'mIoU', [200]) == (grid[:1], [])
    assert halving.apply(grid, grid, tmp_path, 'mIoU', []) == (grid, [])
    on, lines = halving.apply(grid, grid, tmp_path, 'mIoU', [600])
    assert on == [] and 'after step 600 (--until): a' in lines[0]


@pytest.mark.parametrize('step', [150, 800])
def test_a_step_without_a_validation_is_refused(step):
    halving.check(runs('a', [1]), 400)
    with pytest.raises(InvalidSettingError, match='every 200 steps, up to 600'):
        halving.check(runs('a', [1]), step)
