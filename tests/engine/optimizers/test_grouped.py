"""Parameters of equal settings in one group: the same training, in a few steps of the optimiser."""

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper

from mmsigma.errors import UnknownNameError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.fixtures import ROOT
from tests.tiny import backbone, images, loss

RULES: dict[str, dict[str, Any]] = {
    'decay': dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    'rates': dict(custom_keys={'fusion': dict(lr_mult=0.1, decay_mult=0.5), 'up': dict(lr_mult=3)}),
}


def train(rules: dict[str, Any], **options: Any) -> tuple[AdaptedBackbone, Any]:
    own = backbone('registers', 'SIGMA').train()
    optimiser = dict(type='AdamW', lr=1e-2, weight_decay=0.05)
    config = dict(optimizer=optimiser, paramwise_cfg=rules, clip_grad=dict(max_norm=1.0), **options)
    optim = build_optim_wrapper(own, config)
    for _ in range(3):
        optim.update_params(loss(own(images('registers'))))
    return own, optim


@pytest.mark.parametrize(('rules', 'groups'), [('decay', 2), ('rates', 3)])
def test_it_trains_as_mmengines_own(rules: str, groups: int) -> None:
    own, optim = train(RULES[rules], constructor='mmsigma.GroupedOptimWrapperConstructor')
    usual, theirs = train(RULES[rules])
    # The last of both is MMEngine's own, for the rate that it reports.
    assert len(optim.param_groups) == groups + 1 < len(theirs.param_groups) / 5
    grouped = {id(p) for group in optim.param_groups[:-1] for p in group['params']}
    assert grouped == {id(p) for p in own.parameters() if p.requires_grad}
    pairs = zip(own.adapters.parameters(), usual.adapters.parameters(), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def test_schedules_name_it() -> None:
    constructors = {
        path.stem: Config.fromfile(path).optim_wrapper.get('constructor')
        for path in (ROOT / 'configs/_base_/schedules').glob('adamw_*.py')
    }
    assert len(constructors) > 10
    assert {value.removeprefix('mmsigma.') for value in constructors.values()} == {
        'GroupedOptimWrapperConstructor',
        'LayerDecayOptimWrapperConstructor',
    }


def test_the_log_has_a_line_and_not_one_for_each_parameter(capfd: Any) -> None:
    logger = MMLogger.get_instance('grouped', logger_name='grouped')
    train(RULES['decay'], constructor='mmsigma.GroupedOptimWrapperConstructor')
    said = ''.join(capfd.readouterr())
    assert 'paramwise_options' not in said and 'is skipped' not in said
    assert 'Optimiser: 2 groups of parameters (' in said and 'at lr 0.01, weight decay 0' in said
    assert not logger.filters  # other words of MMEngine are heard again


def test_a_misspelt_rule_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"'norm_decay'.*Did you mean 'norm_decay_mult'"):
        train(dict(norm_decay=0.0), constructor='mmsigma.GroupedOptimWrapperConstructor')
