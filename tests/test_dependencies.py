"""A missing or old dependency is an ImportError that says what to install."""

import pytest

from mmsigma import dependencies

GOOD = {
    'torch': '2.11.0+cpu', 'timm': '1.0.31', 'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6',
    'onedl-mmsegmentation': '1.4.2', 'onedl-mmdetection': '3.5.1', 'onedl-mmpretrain': '1.3.6',
}  # fmt: skip
ORIGINAL = {
    'torch': '2.4.0', 'timm': '1.0.0', 'mmengine': '0.10.4', 'mmcv': '2.1.0',
    'mmsegmentation': '1.2.2', 'mmdet': '3.3.0', 'mmpretrain': '1.2.0',
}  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """Check against these distributions, and no package on the path besides."""

    def check(distributions):
        def installed(names):
            return next((distributions[n] for n in names if n in distributions), None)

        monkeypatch.setattr(dependencies, 'installed', installed)
        monkeypatch.setattr(dependencies, 'find_spec', lambda name: None)
        dependencies.check()

    return check


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    'distributions',
    [
        GOOD,
        ORIGINAL,
        without('onedl-mmdetection'),
        without('onedl-mmpretrain'),
        without('onedl-mmcv') | {'mmcv-lite': '2.1.0'},
    ],
)
def test_what_works(environment, distributions):
    environment(distributions)


@pytest.mark.parametrize(
    ('distributions', 'words'),
    [
        (without('torch'), 'torch >= 2.4, which is not installed'),
        (without('timm'), 'timm >= 1.0, which is not installed'),
        (without('onedl-mmengine'), 'mmengine >= 0.10, which is not installed'),
        (without('onedl-mmcv'), 'mmcv >= 2.0, which is not installed'),
        (GOOD | {'torch': '2.3.1'}, 'torch >= 2.4, but torch 2.3.1 is installed'),
        (GOOD | {'timm': '0.9.16'}, 'timm >= 1.0, but timm 0.9.16'),
        (without('onedl-mmcv') | {'mmcv': '1.7.2'}, 'mmcv >= 2.0, but mmcv 1.7.2'),
        (GOOD | {'onedl-mmsegmentation': '0.30.0'}, 'mmseg >= 1.0, but mmseg 0.30.0'),
        (GOOD | {'onedl-mmdetection': '2.28.0'}, 'mmdet >= 3.0, but mmdet 2.28.0'),
    ],
)
def test_what_does_not(environment, distributions, words):
    with pytest.raises(ImportError) as caught:
        environment(distributions)
    assert words in str(caught.value)
    assert "pip install 'mmsigma[openmmlab]'" in str(caught.value)


def test_a_source_checkout_has_no_version(monkeypatch):
    monkeypatch.setattr(dependencies, 'installed', lambda names: None)
    dependencies.check()


def test_installed():
    assert dependencies.installed(('no-such-distribution', 'torch')).startswith('2.')
    assert dependencies.installed(('no-such-distribution',)) is None


def test_importing_the_package_checks(monkeypatch):
    import importlib

    import mmsigma

    monkeypatch.setitem(dependencies.REQUIREMENTS, 'torch', (('torch',), '99', True))
    with pytest.raises(ImportError, match='torch >= 99'):
        importlib.reload(mmsigma)
