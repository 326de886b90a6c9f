"""Names of directories, parsed without Records: a tenth of the time, and a listing may have a hundred thousand.

What does not fit raises CorruptError; then :mod:`btrimg.filesystem.namei` says what is wrong, and skips it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from btrimg.errors import CorruptError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ItemType
from btrimg.ondisk.inodes import DirItem
from btrimg.trees.near import NearTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.inode import Inode
    from btrimg.trees.block import Block


class Name(NamedTuple):
    """An entry of a directory."""

    name: bytes
    objectid: int  #: ino, or id of the subvolume
    kind: int  #: ItemType of what it leads to: INODE_ITEM or ROOT_ITEM
    type: int  #: FileType


def names_in(payload: bytes) -> list[Name]:
    """Return the entries of a DIR_ITEM or DIR_INDEX item.

    Raises CorruptError when one does not fit the item.
    """
    found = []
    at, unpack, size = 0, DirItem.STRUCT.unpack_from, DirItem.SIZE
    while at < len(payload):
        if at + size > len(payload):
            raise CorruptError(f"{len(payload) - at} bytes are left for an entry")
        objectid, kind, _, _, data_len, name_len, file_type = unpack(payload, at)
        start = at + size
        at = start + name_len + data_len
        if at > len(payload):
            raise CorruptError(f"an entry of {at - start + size} bytes does not fit")
        found.append(Name(payload[start : start + name_len], objectid, kind, file_type))
    return found


def names_of(directory: Inode) -> list[Name]:
    """Return the entries of *directory* in order of creation.

    Raises CorruptError when one cannot be read, is there twice, or cannot be a name.
    """
    first = Key(directory.ino, ItemType.DIR_INDEX, 0)
    last = first._replace(offset=U64_MAX)
    found: list[Name] = []
    tree = directory.subvolume.tree
    if isinstance(tree, NearTree):
        for leaf, slots in tree.leaves(first, last):
            found += _names_of_leaf(leaf, slots)
    else:  # a log was replayed
        for _, payload in tree.items(first, last):
            found += names_in(payload)
    names = {entry.name for entry in found}
    together = b"".join(names)
    if len(names) < len(found) or names & _IMPOSSIBLE or b"/" in together or b"\0" in together:
        raise CorruptError(f"directory {directory.ino} has impossible names")
    return found


def _names_of_leaf(leaf: Block, slots: range) -> Iterator[Name]:
    data, unpack, size = leaf.data, DirItem.STRUCT.unpack_from, DirItem.SIZE
    for slot in slots:
        place = leaf.bounds(slot)
        start, end = place.start + size, place.stop
        if start < end:
            objectid, kind, _, _, data_len, name_len, file_type = unpack(data, place.start)
            if start + name_len + data_len == end:  # one name in an item, as it should be
                yield Name(data[start : start + name_len], objectid, kind, file_type)
                continue
        yield from names_in(data[place.start : place.stop])


_IMPOSSIBLE = frozenset((b"", b".", b".."))
