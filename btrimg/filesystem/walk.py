"""Everything below a directory."""

from __future__ import annotations

from btrimg.errors import CorruptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.inode import Inode


def walk(top: Inode) -> Iterator[Inode]:
    """Yield all inodes below the directory *top*, across subvolumes, parents first, siblings in order of creation.

    A file with several names comes once for each. What cannot be read is reported to the image and skipped; so is a
    directory that is reached twice, which only a damaged image can have.
    """
    visited = {(top.subvolume.id, top.ino)}
    pending = [top.entries()]
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
            continue
        inode = found[1]
        yield inode
        if not _is_directory(inode) or inode.is_placeholder:
            continue
        identity = (inode.subvolume.id, inode.ino)
        if identity in visited:
            inode.image.report(CorruptError(f"directory {inode.ino} of subvolume {inode.subvolume.id} has two places"))
            continue
        visited.add(identity)
        pending.append(inode.entries())


def _is_directory(inode: Inode) -> bool:
    try:
        return inode.is_directory
    except CorruptError as error:
        inode.image.report(error)
        return False
