"""Files that come again with the content that they have already: told apart without keeping the content."""

from __future__ import annotations

from itertools import chain

from btrimg.build.imported import create
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, InodeFlag, ItemType
from btrimg.write import fileextents, inodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.build.entries import Entry
    from btrimg.write.data import DataSink
    from btrimg.write.files import Files

_NODATASUM = int(InodeFlag.NODATASUM)


def compare(files: Files, ino: int, entry: Entry, flags: int, sink: DataSink) -> Entry | None:
    """Return None if the regular file *ino* has the content of *entry*; else an entry to read that from anew.

    What was read is not kept: up to the first difference the file that is there has the same. A file that has checksums
    and shall have none, by its inode *flags*, or the other way round, is another one.
    """
    item = inodes.read(files, ino)
    if item.size != entry.size or (item.flags ^ flags) & _NODATASUM:
        return entry
    pieces = iter(entry.pieces)
    equal: list[tuple[int, int]] = []
    cursor = 0
    for offset, data in pieces:
        same = not _has_data(files, ino, cursor, offset)
        if not same or fileextents.read(files, ino, offset, offset + len(data), sink) != data:
            again = ((at, fileextents.read(files, ino, at, at + length, sink)) for at, length in equal)
            return entry._replace(pieces=chain(again, [(offset, data)], pieces))
        equal.append((offset, len(data)))
        cursor = offset + len(data)
    if _has_data(files, ino, cursor, entry.size):
        return entry._replace(pieces=((at, fileextents.read(files, ino, at, at + size, sink)) for at, size in equal))
    return None


def _has_data(files: Files, ino: int, start: int, end: int) -> bool:
    """Return whether what is a hole of an entry is none of the file."""
    if start >= end:
        return False
    return any(
        row.kind not in ("hole", "prealloc") and row.offset < end for row in fileextents.rows(files, ino, start, end)
    )


def share(files: Files, source: int, ino: int, entry: Entry, flags: int) -> None:
    """Make the new inode *ino* of *entry* with all extents of the file *source*."""
    for key, payload in _extents(files, source):
        files.tree.put(key._replace(objectid=ino), payload)
    item = inodes.read(files, source)
    flags |= item.flags & InodeFlag.PREALLOC
    create(files, ino, entry, flags=int(flags), size=item.size, nbytes=item.nbytes)


def _extents(files: Files, ino: int) -> Iterator[tuple[Key, bytes]]:
    first = Key(ino, ItemType.EXTENT_DATA, 0)
    return files.tree.items(first, first._replace(offset=U64_MAX))
