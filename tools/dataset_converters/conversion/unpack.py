"""Members of archives become files under other names."""

import shutil
from collections.abc import Callable
from pathlib import Path

from conversion.archive import Member, members, readable
from mmsigma.checkpoint.atomic_write import whole
from mmsigma.errors import DataError


def unpack(
    path: Path,
    root: Path,
    rename: Callable[[str], str | None],
    is_nested: Callable[[str], bool] = lambda member: False,
) -> tuple[int, int]:
    """Write the members that are needed, except those that are there already.

    Args:
        path: The archive.
        root: Folder that they go to.
        rename: The path of a member below ``root``, or None where it is not needed.
        is_nested: Whether a member is an archive to unpack in the same way.

    Returns:
        How many members were needed, and how many were written.

    Raises:
        DataError: An archive that cannot be read, or two members for one path.
    """
    from tqdm import tqdm  # --help needs none of it

    found, written = 0, 0
    seen: dict[str, str] = {}
    size, title = path.stat().st_size, f'unpack {path.name}'
    with readable(path), tqdm(total=size, desc=title, unit_scale=True, disable=None) as bar:
        for member in members(path):
            if is_nested(member.name):
                inner = root / f'.{Path(member.name).name}'
                _copy(member, inner)
                numbers = unpack(inner, root, rename)
                inner.unlink()
                found, written = found + numbers[0], written + numbers[1]
                continue
            name = rename(member.name)
            if name is not None:
                if name in seen:
                    raise DataError(
                        f'{path} has {seen[name]!r} and {member.name!r}, which would both be '
                        f'{root / name}. It is not the published archive.'
                    )
                seen[name] = member.name
                target = root / name
                found += 1
                if not (target.is_file() and target.stat().st_size == member.size):
                    _copy(member, target)
                    written += 1
            bar.update(member.done - bar.n)
    return found, written


def _copy(member: Member, target: Path) -> None:
    with whole(target, sync=False) as new, member.read() as source, new.open('wb') as file:
        shutil.copyfileobj(source, file)
