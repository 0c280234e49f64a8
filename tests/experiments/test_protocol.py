"""What runs must share to stand in one table."""

import textwrap

import pytest

from mmsigma.engine import tuner_code
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import protocol
from mmsigma.registry import TUNERS
from tests.records import record

CONFIG = {
    'train_dataloader': {'batch_size': 4, 'num_workers': 1, 'dataset': {'data_root': '/a/camvid'}},
    'train_cfg': {'max_iters': 600},
    'optim_wrapper': {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': 1e-3},
        'paramwise_cfg': {'custom_keys': {'backbone': {'lr_mult': 0.1}}},
    },
    'model': {'backbone': {'type': 'mmsigma.AdaptedBackbone', 'tuner': {'type': 'SIGMA'}}},
}


def changed(name, value, config=CONFIG):
    first, _, rest = name.partition('.')
    inner = changed(rest, value, config.get(first, {})) if rest else value
    return {**config, first: inner}


@pytest.mark.parametrize(
    ('name', 'value', 'section'),
    [
        ('train_dataloader.batch_size', 8, 'data'),
        ('train_dataloader.dataset.data_root', '/a/vnc', 'data'),
        ('val_evaluator', {'type': 'IoUMetric'}, 'data'),
        ('model.test_cfg', {'mode': 'slide'}, 'data'),
        ('train_cfg.max_iters', 300, 'schedule'),
        ('param_scheduler', [{'type': 'PolyLR'}], 'schedule'),
        ('optim_wrapper.optimizer.type', 'SGD', 'schedule'),
        ('optim_wrapper.clip_grad', {'max_norm': 1.0}, 'schedule'),
        ('optim_wrapper.type', 'mmsigma.BFloat16OptimWrapper', 'precision'),
        ('model.backbone.autocast', 'bfloat16', 'precision'),
        ('model.backbone.trunk.dtype', 'float16', 'precision'),
        # No part of it: what a table chooses, what changes no figure, and where the data are.
        ('optim_wrapper.optimizer.lr', 3e-3, None),
        ('optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult', 1.0, None),
        ('train_dataloader.num_workers', 0, None),
        ('model.backbone.tuner.type', 'Adapter', None),
    ],
)
def test_each_setting_belongs_to_one_section(name, value, section):
    before, after = protocol.of(CONFIG), protocol.of(changed(name, value))
    assert [key for key in before if before[key] != after[key]] == ([section] if section else [])
    # What a method sets by itself is compared within the method alone.
    mine = protocol.of(changed(name, value), [name])
    assert [key for key in mine if mine[key].startswith('own ')] == ([section] if section else [])


def test_precision_is_told_in_words():
    assert protocol.of(CONFIG)['precision'] == 'float32'
    half = changed('model.backbone.autocast', 'bfloat16')
    half = changed('optim_wrapper.type', 'AmpOptimWrapper', half)
    assert protocol.of(half)['precision'] == 'AmpOptimWrapper, autocast bfloat16'


def made(name, **sections):
    return record(name, protocol={'data': 'd', 'precision': 'float32', **sections})


def test_what_differs_is_told_with_its_runs():
    runs = [made('a'), made('b'), made('c', data='e', precision='AmpOptimWrapper'), record('old')]
    with pytest.raises(InvalidSettingError) as error:
        protocol.check(runs)
    text = str(error.value)
    assert '- data: a_lr0.001_seed0, b_lr0.001_seed0 (d); c_lr0.001_seed0 (e)' in text
    assert '(float32); c_lr0.001_seed0 (AmpOptimWrapper)' in text
    protocol.check([*runs[:2], runs[3]])  # records of before say nothing, and are compared in none


def test_code_and_own_settings_are_compared_within_a_method():
    protocol.check([made('a', code='1', data='own x'), made('b', code='2', data='own y')])
    with pytest.raises(InvalidSettingError, match='- code: a_'):
        protocol.check([made('a', code='1'), {**made('a', code='2'), 'run': 'a_again'}])
    with pytest.raises(InvalidSettingError, match='- data: a_'):
        protocol.check([made('a', data='own x'), {**made('a', data='own y'), 'run': 'a_again'}])


def test_code_is_what_computes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / 'some_tuners'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'parts.py').write_text('SCALE = 1\n')
    main = package / 'mine.py'
    text = textwrap.dedent("""
        from mmsigma.registry import TUNERS
        from some_tuners.parts import SCALE

        @TUNERS.register_module(force=True)
        class OnlyForThisTest:
            def scale(self, x):
                if x < 0:
                    raise ValueError('negative')
                return x * SCALE
    """)
    main.write_text(text)
    monkeypatch.setattr(TUNERS, '_module_dict', dict(TUNERS.module_dict))
    __import__('some_tuners.mine')
    config = changed('model.backbone.tuner.type', 'OnlyForThisTest')

    def code():
        return tuner_code.code(config)

    before = code()
    main.write_text('"""A docstring."""\nimport os\n' + text.replace('negative', 'below zero'))
    assert code() == before != tuner_code.code(CONFIG)
    main.write_text(text.replace('x * SCALE', 'x + SCALE'))
    assert code() != before
    main.write_text(text)
    assert code() == before
    (package / 'parts.py').write_text('SCALE = 2\n')
    assert code() != before
    assert tuner_code.code({}) is None
