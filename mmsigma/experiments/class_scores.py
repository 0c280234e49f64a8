"""Scores by class, from the table that mmseg's ``IoUMetric`` prints into a run's log.

mmseg hands only means to the hooks; the values by class exist in the text log alone.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

_HEADING = 'per class results:'
_END = re.compile(r' (?:Iter|Epoch)\((val|test)\)')


def read(work_dir: Path) -> dict[str, dict[str, float | None]]:
    """IoU by class, in percent, of the last validation and of the test of a run.

    Args:
        work_dir: The run's folder; its log folders are named by the time when they began.

    Returns:
        By split, ``validation`` and ``test``, as far as the log has them: classes in the order of
        the data set, with None for one that neither truth nor predictions hold. A split with
        several tables, of several data sets, is left out.
    """
    found: dict[str, dict[str, float | None]] = {}
    for folder in sorted(path for path in work_dir.glob('*_*') if path.is_dir()):
        log = folder / f'{folder.name}.log'
        if log.exists():
            found |= of_log(log.read_text(errors='replace'))
    return found


def of_log(text: str) -> dict[str, dict[str, float | None]]:
    """What :func:`read` finds, in the text of one log."""
    found: dict[str, dict[str, float | None]] = {}
    tables: list[dict[str, float | None]] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.endswith(_HEADING):
            tables.append(_table(lines))
        # Progress has the same words; the scores come with the line behind the tables.
        elif tables and (end := _END.search(line)):
            split = 'validation' if end[1] == 'val' else 'test'
            if len(tables) == 1:
                found[split] = tables[0]
            else:
                found.pop(split, None)
            tables = []
    return found


def _table(lines: Iterator[str]) -> dict[str, float | None]:
    """The column IoU of the next table."""
    names: list[str] = []
    scores: dict[str, float | None] = {}
    rules = 0
    for line in lines:
        if line.startswith('+--'):
            rules += 1
            if rules == 3:
                break
        elif line.startswith('|'):
            cells = [cell.strip() for cell in line.strip('|').split('|')]
            if not names:
                names = cells
            elif 'IoU' in names:
                value = float(cells[names.index('IoU')])
                scores[cells[names.index('Class')]] = None if math.isnan(value) else value
    return scores
