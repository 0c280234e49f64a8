"""``tools/memory.py``, ``attention.py`` and ``precision.py`` with tiny arguments."""

import pytest

MODEL = ('--model', 'vit_tiny_patch16_224')
STORED = ['float32', 'bfloat16', 'int8']


def cells(lines: list[str]) -> list[list[str]]:
    """The rows of the one table, without its header."""
    rows = [line.strip('| ').split(' | ') for line in lines if line.startswith('|')]
    return rows[2:]


def test_memory(place, capsys) -> None:
    pytest.importorskip('torchao')
    page = place.root / 'page.md'
    page.write_text('<!-- table: python tools/memory.py --write page.md -->\n<!-- end -->\n')
    assert place.call('memory', *MODEL, '--size', '32', '--write', page) == 0
    rows = cells(capsys.readouterr().out.splitlines())
    assert rows == cells(page.read_text().splitlines())
    assert [row[:2] for row in rows] == [[s, a] for s in STORED for a in ('none', 'bfloat16')]
    frozen = {row[0]: float(row[2]) for row in rows}
    assert frozen['bfloat16'] == pytest.approx(frozen['float32'] / 2, abs=0.06)
    # All but the embeddings, norms and biases is a quarter.
    assert 0.25 < frozen['int8'] / frozen['float32'] < 0.45
    for _, _, _, trained, kept, recomputed in rows:
        assert float(trained) > 0 and float(kept) > float(recomputed) >= 0
    kept = {tuple(row[:2]): row[4] for row in rows}
    assert kept['int8', 'none'] == kept['float32', 'none']


def test_attention(place, capsys) -> None:
    options = ['--tokens', '5', '7', '--batch', '1', '--heads', '1', '--width', '8']
    assert place.call('attention', *options, '--repeats', '1') == 0
    rows = cells(capsys.readouterr().out.splitlines())
    assert [row[0] for row in rows] == ['5', '7']
    assert all(len(row) == 5 and float(row[1]) >= 0 for row in rows)


def test_precision(place, capsys) -> None:
    pytest.importorskip('torchao')
    assert place.call('precision', *MODEL, '--size', '32', '--repeats', '1') == 0
    rows = cells(capsys.readouterr().out.splitlines())
    errors = {tuple(row[:2]): float(row[2].split()[0]) for row in rows}
    assert errors['float32', 'none'] < 1e-3 < errors['int8', 'none'] < 5
    assert rows[0][3] == '1.00' and all(float(row[3]) > 0 for row in rows)
