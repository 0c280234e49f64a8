"""Tables in pages of the documentation that a command writes."""

import re

from mmsigma.errors import InvalidSettingError

END = '<!-- end -->'


def fill(page: str, tool: str, table: str) -> str:
    """The text of a page with another table in the place that names the tool which writes it.

    Args:
        page: The text, with ``<!-- table: python {tool} ... -->`` before and ``<!-- end -->``
            behind the table.
        tool: Path of the tool, e.g. ``tools/params.py``.
        table: The new table.

    Raises:
        InvalidSettingError: The page has no such place.
    """
    begin = f'<!-- table: python {tool}'
    place = re.compile(rf'({re.escape(begin)}[^\n]*-->\n).*?({re.escape(END)})', re.DOTALL)
    if not place.search(page):
        raise InvalidSettingError(
            f'The page has no place for the table of {tool}: write a line {begin} ... --> and a '
            f'line {END} where it shall be.'
        )
    return place.sub(lambda found: f'{found[1]}\n{table}\n\n{found[2]}', page, count=1)
