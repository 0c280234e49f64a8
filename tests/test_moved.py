"""Configs that name a module of before are told the new name."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsigma import moved
from mmsigma.errors import InvalidSettingError
from mmsigma.registry import MODELS

OLD, NEW = 'mmsigma.backbone', 'mmsigma.models.adapted_backbone'


def test_new_modules_exist_and_old_ones_do_not() -> None:
    for old, new in moved.MOVED.items():
        assert find_spec(new), new
        with pytest.raises(InvalidSettingError, match=f'it is {new} now'):
            moved._Finder().find_spec(old, None)
    assert moved.MOVED[OLD] == NEW


@pytest.mark.parametrize('lenient', [False, True])
def test_custom_imports(tmp_path: Path, lenient: bool) -> None:
    path = tmp_path / 'config.py'
    imports = {'imports': ['mmsigma', OLD], 'allow_failed_imports': lenient}
    path.write_text(f'custom_imports = {imports!r}')
    with pytest.raises(InvalidSettingError, match=f'no module {OLD} any more: it is {NEW} now'):
        Config.fromfile(path)


def test_type_with_a_full_path() -> None:
    with pytest.raises(RuntimeError) as caught:
        MODELS.build({'type': f'{OLD}.AdaptedBackbone'})
    assert NEW in str(moved.cause(caught.value))


def test_a_package_says_where_its_modules_went() -> None:
    with pytest.raises(InvalidSettingError, match=r'analysis\.data is mmsigma\.datasets\.'):
        import_module('mmsigma.analysis.data')


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'mmsigma\.nonsense'"):
        import_module('mmsigma.nonsense')
    assert moved.cause(ValueError()) is None
