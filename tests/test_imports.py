"""What may import what: the contracts in pyproject.toml hold."""

import pytest

from tests.fixtures import ROOT

cli = pytest.importorskip('importlinter.cli')


def test_the_contracts_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.lint_imports(no_cache=True) == 0, capsys.readouterr().out
