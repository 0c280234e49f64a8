"""What is known of a published data set: its archives, its files, its splits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Split:
    """Images and labels that belong together; paths are below the data set's folder.

    Attributes:
        title: For messages, e.g. ``'training'``.
        images: Folder of the images, searched with all folders below.
        labels: Folder of their labels; None where none are published.
        number: Images that the publisher counts; None where that is not known for certain.
        archives: Which archives hold them, for messages.
        image_suffix, label_suffix: What follows the name that image and label share.
        names: File that lists the names, one a line; None where the split is the whole folder.
        aside: Folder of images that were put aside, which count too.
        optional: Whether the data set is of use without.
    """

    title: str
    images: str
    labels: str | None
    number: int | None
    archives: str
    image_suffix: str = '.jpg'
    label_suffix: str = '.png'
    names: str | None = None
    aside: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Dataset:
    """A published data set.

    Attributes:
        title: Its name.
        folder: Where it goes, below the folder of all data.
        site: Where to get it.
        archives: Names of the published archives, and their MD5 sums where known for certain.
        members: Patterns of the members that are needed, whatever folders are above them, and
            their paths below ``folder``.
        splits: What must be there in the end.
        nested: Pattern of archives inside the archives.
    """

    title: str
    folder: str
    site: str
    archives: Mapping[str, str | None]
    members: tuple[tuple[str, str], ...]
    splits: tuple[Split, ...]
    nested: str | None = None
    _patterns: list[tuple[re.Pattern[str], str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        patterns = [(re.compile(f'(?:.*?/)?{p}'), target) for p, target in self.members]
        object.__setattr__(self, '_patterns', patterns)

    def rename(self, member: str) -> str | None:
        """Where a member goes, below ``folder``; None where it is not needed."""
        if '__MACOSX' in member or member.rpartition('/')[2].startswith('.'):
            return None
        for pattern, target in self._patterns:
            found = pattern.fullmatch(member)
            if found:
                path = found.expand(target)
                return None if '..' in path.split('/') else path
        return None

    def is_nested(self, member: str) -> bool:
        """Whether a member is an archive to look into."""
        return bool(self.nested and re.fullmatch(f'(?:.*?/)?{self.nested}', member))

    def where(self) -> str:
        """One sentence for messages: which archives, and from where."""
        return f'Download {", ".join(self.archives)} from {self.site}.'
