"""Listings of directories: from leaves to what goes over the wire in one step, as there may be 100,000 names.

It is done without Records, in a tenth of the time. What does not fit raises CorruptError; then
:mod:`btrimg.filesystem.namei` says what is wrong, and skips it.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError
from btrimg.mount.wire import Dirent
from btrimg.ondisk.blocks import Header, Item, Key
from btrimg.ondisk.constants import U64_MAX, FileType, ItemType
from btrimg.ondisk.inodes import DirItem
from btrimg.trees.near import NearTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.filesystem.inode import Inode
    from btrimg.trees.block import Block

    #: An entry of a directory: name, ino or id of the subvolume, ItemType of what that is, FileType.
    Name = tuple[bytes, int, int, int]

NAME_MAX = 255
_UNKNOWN_INO = 0xFFFF_FFFF  #: of ``..``, as libfuse says it
_PADDING = [bytes(-length % 8) for length in range(8)]  #: behind a name, by its length modulo 8
_IMPOSSIBLE = frozenset((b"", b".", b".."))
DIRECTORY = stat.S_IFDIR >> 12  #: d_type
#: From the type in an entry to d_type, which is that of st_mode.
_D_TYPES = bytearray(256)
for _type, _format in (
    (FileType.REG_FILE, stat.S_IFREG),
    (FileType.DIR, stat.S_IFDIR),
    (FileType.CHRDEV, stat.S_IFCHR),
    (FileType.BLKDEV, stat.S_IFBLK),
    (FileType.FIFO, stat.S_IFIFO),
    (FileType.SOCK, stat.S_IFSOCK),
    (FileType.SYMLINK, stat.S_IFLNK),
):
    _D_TYPES[_type] = _format >> 12


class Listing:
    """All names of a directory, ``.`` and ``..`` first.

    Inodes with numbers in *plain* are shown as that number and *base*; what other entries lead to, *number_of* says.
    """

    def __init__(self, shown: int, plain: range, base: int, number_of: Callable[[bytes, int, int], int]) -> None:
        self.dirents: list[bytes] = []  #: as they go over the wire, padded
        self.numbers: list[int] = []  #: of what the names lead to; 0 for none, and for the first two
        self._found: dict[bytes, int] | None = None  # once somebody looks for a name
        self.complete = True  #: False when some could not be read
        self._plain, self._base, self._number_of = plain, base, number_of
        for name, number in (b".", shown), (b"..", _UNKNOWN_INO):
            self._add(name, number, DIRECTORY)
            self.numbers.append(0)

    def __len__(self) -> int:
        return len(self.dirents)

    def find(self, name: bytes) -> int:
        """Return the number that *name* leads to, 0 if that is not known here."""
        if self._found is None:
            self._found = dict(zip(map(_name_in, self.dirents), self.numbers, strict=True))
        return self._found.get(name, 0)

    def _add(self, name: bytes, number: int, kind: int) -> None:
        length = len(name)
        head = Dirent.STRUCT.pack(number or _UNKNOWN_INO, len(self.dirents) + 1, length, kind)
        self.dirents.append(head + name + _PADDING[length & 7])

    def add(self, names: Iterable[Name]) -> None:
        """Add entries, of which some may be odd; those that are longer than names can be are left out."""
        for name, objectid, kind, file_type in names:
            if len(name) > NAME_MAX:
                self.complete = False
                continue
            number = self._number_of(name, objectid, kind)
            self._add(name, number, _D_TYPES[file_type])
            self.numbers.append(number)

    def add_all(self, directory: Inode) -> None:
        """Add the entries of *directory* in order of creation.

        Raises CorruptError, and adds none, when one cannot be read, is there twice, or cannot be a name.
        """
        first = Key(directory.ino, ItemType.DIR_INDEX, 0)
        last = first._replace(offset=U64_MAX)
        tree, before = directory.subvolume.tree, len(self)
        found: list[bytes] = []
        try:
            if isinstance(tree, NearTree):
                for leaf, slots in tree.leaves(first, last):
                    found += self._add_leaf(leaf, slots)
            else:  # a log was replayed
                for _, payload in tree.items(first, last):
                    found += self._add_payload(payload)
            names, together = set(found), b"".join(found)
            if len(names) < len(found) or names & _IMPOSSIBLE or b"/" in together or b"\0" in together:
                raise CorruptError(f"directory {directory.ino} has impossible names")
        except CorruptError:
            del self.dirents[before:], self.numbers[before:]
            raise

    def _add_payload(self, payload: bytes) -> list[bytes]:
        names = names_in(payload)
        if any(len(name) > NAME_MAX for name, _, _, _ in names):
            raise CorruptError("a name is too long")
        self.add(names)
        return [name for name, _, _, _ in names]

    def _add_leaf(self, leaf: Block, slots: range) -> list[bytes]:
        """Add the entries in *slots* of a leaf, and return their names."""
        data, unpack, size, pack, padding = (
            leaf.data,
            DirItem.STRUCT.unpack_from,
            DirItem.SIZE,
            Dirent.STRUCT.pack,
            _PADDING,
        )
        begin, highest, inode_item = Header.SIZE + len(leaf) * Item.SIZE, len(data), int(ItemType.INODE_ITEM)
        base, lowest, end, types, at = self._base, self._plain.start, self._plain.stop, _D_TYPES, len(self.dirents)
        names: list[bytes] = []
        dirents: list[bytes] = []
        numbers: list[int] = []
        for _, _, _, offset, length in leaf.slots[slots.start : slots.stop]:
            item = Header.SIZE + offset
            start = item + size
            if not begin <= item < start < item + length <= highest:
                break
            objectid, kind, _, _, data_len, name_len, file_type = unpack(data, item)
            if size + name_len + data_len != length or name_len > NAME_MAX:
                break
            name = data[start : start + name_len]
            if kind == inode_item and lowest <= objectid < end:
                number = base + objectid
            else:
                number = self._number_of(name, objectid, kind)
            at += 1
            names.append(name)
            numbers.append(number)
            dirents.append(pack(number or _UNKNOWN_INO, at, name_len, types[file_type]) + name + padding[name_len & 7])
        else:  # one name in each item, as it should be
            self.dirents += dirents
            self.numbers += numbers
            return names
        return [name for slot in slots for name in self._add_payload(leaf.payload(slot))]


def _name_in(dirent: bytes) -> bytes:
    _, _, length, _ = Dirent.STRUCT.unpack_from(dirent)
    return dirent[Dirent.SIZE : Dirent.SIZE + length]


def names_in(payload: bytes) -> list[Name]:
    """Return the entries of a DIR_ITEM or DIR_INDEX item.

    Raises CorruptError when one does not fit the item.
    """
    found: list[Name] = []
    at, unpack, size = 0, DirItem.STRUCT.unpack_from, DirItem.SIZE
    while at < len(payload):
        if at + size > len(payload):
            raise CorruptError(f"{len(payload) - at} bytes are left for an entry")
        objectid, kind, _, _, data_len, name_len, file_type = unpack(payload, at)
        start = at + size
        at = start + name_len + data_len
        if at > len(payload):
            raise CorruptError(f"an entry of {at - start + size} bytes does not fit")
        found.append((payload[start : start + name_len], objectid, kind, file_type))
    return found
