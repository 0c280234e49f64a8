"""Every tuner has a config, which says its type and what it must."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmsigma import registry
from mmsigma.registry import TUNERS, build
from tests.fixtures import ROOT

FILES = sorted(Path(ROOT, 'configs/_base_/tuners').glob('*.py'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_builds_with_the_method_s_own_defaults(path: Path) -> None:
    config = Config.fromfile(path).tuner
    tuner = build(TUNERS, dict(config))
    if config.keys() == {'type'}:
        assert tuner == type(tuner)()


def test_all_are_there() -> None:
    registry.TUNERS.import_from_location()
    named = {Config.fromfile(path).tuner.type for path in FILES}
    assert registry.TUNERS.module_dict.keys() <= named
