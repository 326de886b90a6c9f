"""What stands below the top directory of a subvolume, as values that can be compared with those of a snapshot of it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID, InodeFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image, Subvolume
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.inodes import InodeItem, Timespec


class Described(NamedTuple):
    """An inode: all that a recipe can say of it."""

    mode: int
    uid: int
    gid: int
    rdev: int
    flags: int
    times: tuple[Timespec, Timespec, Timespec, Timespec]  #: of access, of change of content, of change, of creation
    xattrs: tuple[tuple[bytes, bytes], ...]
    size: int  #: 0 for directories
    rows: tuple[FileExtentRow, ...]  #: generations left out: they say when, not what
    target: bytes  #: of a symlink
    names: tuple[bytes, ...]  #: its paths in the subvolume

    @property
    def is_directory(self) -> bool:
        """Return whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def checksummed(self) -> bool:
        """Return whether data has checksums."""
        return not self.flags & InodeFlag.NODATASUM


class Contents(NamedTuple):
    """A subvolume."""

    top: Described
    inodes: dict[bytes, Described]  #: by path from the subvolume's top, parents before what they hold
    nested: dict[bytes, int]  #: paths at which subvolumes hang
    placeholders: frozenset[bytes]  #: paths at which a subvolume hung in what this is a snapshot of


def describe(image: Image, subvolume: Subvolume) -> Contents:
    """Return what stands in a subvolume; what cannot be read is reported to the image, and left out."""
    top = image.open(b"/", subvolume=subvolume.id)
    paths: dict[int, list[bytes]] = {}
    found: list[tuple[bytes, Inode]] = []
    nested: dict[bytes, int] = {}
    placeholders: set[bytes] = set()
    for path, inode in _below(top):
        if inode.is_placeholder:
            placeholders.add(path)
        elif inode.subvolume.id != subvolume.id:
            nested[path] = inode.subvolume.id
        else:
            paths.setdefault(inode.ino, []).append(path)
            found.append((path, inode))
    known: dict[int, Described] = {}
    inodes: dict[bytes, Described] = {}
    for path, inode in found:
        if inode.ino not in known:
            known[inode.ino] = _describe_inode(inode, tuple(sorted(paths[inode.ino])))
        inodes[path] = known[inode.ino]
    return Contents(_describe_inode(top, ()), inodes, nested, frozenset(placeholders))


def _below(top: Inode) -> Iterator[tuple[bytes, Inode]]:
    """Yield all inodes of one subvolume with their paths, parents first, and what hangs in it of others."""
    pending = [(b"", top)]
    visited = {top.ino}
    while pending:
        at, directory = pending.pop()
        for entry, inode in directory.entries():
            path = at + b"/" + entry.name
            yield path, inode
            inside = inode.subvolume.id == top.subvolume.id and inode.ino != EMPTY_SUBVOL_DIR_OBJECTID
            if inside and inode.is_directory and inode.ino not in visited:
                visited.add(inode.ino)
                pending.append((path, inode))


def _describe_inode(inode: Inode, names: tuple[bytes, ...]) -> Described:
    item: InodeItem = inode.item
    rows: tuple[FileExtentRow, ...] = ()
    if stat.S_ISREG(item.mode):
        rows = tuple(_ageless(row) for row in inode.extents() if row.kind != "hole")
    return Described(
        mode=item.mode,
        uid=item.uid,
        gid=item.gid,
        rdev=item.rdev if stat.S_ISCHR(item.mode) or stat.S_ISBLK(item.mode) else 0,
        flags=item.flags & 0xFFFF_FFFF,
        times=(item.atime, item.mtime, item.ctime, item.otime),
        xattrs=tuple(sorted(inode.xattrs().items())),
        size=0 if stat.S_ISDIR(item.mode) else item.size,
        rows=rows,
        target=inode.target() if stat.S_ISLNK(item.mode) else b"",
        names=names,
    )


def _ageless(row: FileExtentRow) -> FileExtentRow:
    return row._replace(extent=row.extent._replace(generation=0)) if row.extent else row
