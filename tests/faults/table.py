"""The faults of ``faults.yaml``, and how one is put into a copy of the library."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = 'mmsigma'
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


@dataclass(frozen=True)
class Fault:
    """A small fault; see the head of ``faults.yaml``."""

    name: str
    file: str
    text: str
    fault: str
    wrong: str
    tests: tuple[str, ...]

    def faulty(self, root: Path) -> str:
        """The content of the file below ``root``, a checkout, with the fault.

        Raises:
            ValueError: The text is not there, or more than once.
        """
        content = (root / PACKAGE / self.file).read_text(encoding='utf-8')
        count = content.count(self.text)
        if count != 1:
            raise ValueError(f'{self.file} has this {count} times, not once: {self.text!r}')
        return content.replace(self.text, self.fault)

    def put_into(self, root: Path) -> None:
        """Write the fault into a copy of the checkout."""
        (root / PACKAGE / self.file).write_text(self.faulty(root), encoding='utf-8')


@cache
def faults() -> list[Fault]:
    """All of them, in order."""
    text = Path(__file__).with_name('faults.yaml').read_text(encoding='utf-8')
    entries = yaml.load(text, _LOADER)
    return [Fault(**{**entry, 'tests': tuple(entry['tests'])}) for entry in entries]
