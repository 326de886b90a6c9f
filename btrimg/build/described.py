"""What stands below the top directory of a subvolume, as values that can be compared with those of a snapshot of it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem.extents import row_of_item
from btrimg.filesystem.inode import quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID, U64_MAX, InodeFlag, ItemType
from btrimg.ondisk.inodes import InodeItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image, Subvolume
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.inodes import Timespec


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
            try:
                known[inode.ino] = _describe_inode(inode, tuple(sorted(paths[inode.ino])))
            except BtrimgError as error:
                image.report(CorruptError(f"{quoted(path)} is left out: {error}"))
                continue
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
            if inside and inode.ino not in visited and _is_directory(inode):
                visited.add(inode.ino)
                pending.append((path, inode))


def _is_directory(inode: Inode) -> bool:
    try:
        return inode.is_directory
    except CorruptError:  # who describes it tells of it
        return False


def _describe_inode(inode: Inode, names: tuple[bytes, ...]) -> Described:
    """Return what there is to say of an inode; parts that cannot be read are reported to the image, and left out.

    Raises BtrimgError when nothing can be said.
    """
    item = _item(inode)
    return Described(
        mode=item.mode,
        uid=item.uid,
        gid=item.gid,
        rdev=item.rdev if stat.S_ISCHR(item.mode) or stat.S_ISBLK(item.mode) else 0,
        flags=item.flags & 0xFFFF_FFFF,
        times=(item.atime, item.mtime, item.ctime, item.otime),
        xattrs=tuple(sorted(_xattrs(inode).items())),
        size=0 if stat.S_ISDIR(item.mode) else item.size,
        rows=tuple(_rows(inode)) if stat.S_ISREG(item.mode) else (),
        target=inode.target() if stat.S_ISLNK(item.mode) else b"",
        names=names,
    )


def _item(inode: Inode) -> InodeItem:
    """Return the item of an inode; of a directory that has lost it, one that holds what is below."""
    try:
        return inode.item
    except BtrimgError as error:
        if not inode.is_directory:
            raise
        inode.image.report(CorruptError(f"{inode.quoted} is described without its attributes: {error}"))
    return InodeItem.unpack(bytes(InodeItem.SIZE)).replace(mode=stat.S_IFDIR | 0o755)


def _xattrs(inode: Inode) -> dict[bytes, bytes]:
    try:
        return inode.xattrs()
    except BtrimgError as error:
        inode.image.report(CorruptError(f"{inode.quoted} is described without extended attributes: {error}"))
        return {}


def _rows(inode: Inode) -> Iterator[FileExtentRow]:
    """Yield the extents of a file, each by itself: what one of them says that nobody knows is a hole in it."""

    def tell(error: BtrimgError) -> None:
        inode.image.report(CorruptError(f"{inode.quoted} has a hole: {error}"))

    end = 0
    first = Key(inode.ino, ItemType.EXTENT_DATA, 0)
    for key, payload in inode.subvolume.tree.items(first, first._replace(offset=U64_MAX), bad=tell):
        try:
            row = row_of_item(key, payload)
        except BtrimgError as error:
            tell(error)
            continue
        if row.offset < end:
            tell(CorruptError(f"file extents overlap at {row.offset}"))
            continue
        end = row.end
        if row.kind != "hole":
            yield _ageless(row)


def _ageless(row: FileExtentRow) -> FileExtentRow:
    return row._replace(extent=row.extent._replace(generation=0)) if row.extent else row
