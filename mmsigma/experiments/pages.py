"""Tables in pages of the documentation that a command writes."""

import re
from pathlib import Path

from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import InvalidSettingError

END = '<!-- end -->'


def fill(page: str, tool: str, table: str) -> str:
    """The text of a page with another table in the place that names the tool which writes it.

    Args:
        page: The text, with ``<!-- table: python {tool} ... -->`` before and ``<!-- end -->``
            behind the table.
        tool: Path of the tool, and as many of its arguments as tell its tables apart, e.g.
            ``tools/table.py results/camvid_peft``.
        table: The new table.

    Raises:
        InvalidSettingError: The page has no such place.
    """
    begin = f'<!-- table: python {tool}'
    place = re.compile(rf'({re.escape(begin)}(?= )[^\n]*-->\n).*?({re.escape(END)})', re.DOTALL)
    if not place.search(page):
        raise InvalidSettingError(
            f'The page has no place for the table of {tool}: write a line {begin} ... --> and a '
            f'line {END} where it shall be.'
        )
    return place.sub(lambda found: f'{found[1]}\n{table}\n\n{found[2]}', page, count=1)


def put(path: str | Path, tool: str, table: str) -> None:
    """Put a table into its place in a page; see :func:`fill`.

    Raises:
        InvalidSettingError: There is no such page, or it has no such place.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob('*.md'))
        raise InvalidSettingError(
            f'There is no page {str(path)!r}; {path.parent} holds {", ".join(near) or "none"}.'
        )
    write(path, fill(path.read_text(), tool, table).encode())
