"""The visible files: names, attributes, listings and extended attributes, by the numbers of :mod:`numbers`."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import namei
from btrimg.filesystem.extents import file_extents
from btrimg.filesystem.inode import Inode
from btrimg.mount.channel import RefusedRequest
from btrimg.mount.listing import Listing, names_in
from btrimg.mount.numbers import Numbers
from btrimg.mount.wire import STATX_BASIC_STATS, STATX_BTIME, Attr, Statx, SxTime
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID, InodeFlag, ItemType
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import InodeItem
from btrimg.trees.near import NearTree, near
from btrimg.units import round_up

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from btrimg.filesystem.image import Image, Subvolume
    from btrimg.mount.listing import Name
    from btrimg.mount.numbers import File
    from btrimg.mount.reading import Run
    from btrimg.ondisk.inodes import DirItem, Timespec
    from btrimg.trees.tree import Tree

_INODES, _ENTRIES, _SUBVOLUMES = 4096, 250_000, 64  #: how many are kept for the next question
_LOOKED, _LONG_NAME = 64, 16  #: directories; and bytes of size that a name takes
_U64 = (1 << 64) - 1
_SIZE, _FLAGS = (InodeItem.places()[name].start for name in ("size", "flags"))
_TIMES = slice(InodeItem.places()["atime"].start, InodeItem.places()["mtime"].stop)


class FileData:
    """What it takes to read a regular file."""

    __slots__ = ("checksummed", "ino", "run", "size", "subvolume", "tree")

    def __init__(self, tree: Tree, subvolume: int, ino: int, size: int, *, checksummed: bool) -> None:
        self.tree, self.subvolume, self.ino = tree, subvolume, ino
        self.size, self.checksummed = size, checksummed
        self.run: Run | None = None  #: where its reader is expected to go on


class Files:
    """The files below a subvolume's top directory; all methods may be called by several threads.

    *lock* is held while trees are searched: neither they nor their caches are made for several threads.
    """

    def __init__(self, image: Image, subvolume: int, lock: threading.RLock) -> None:
        self.image, self.lock = image, lock
        top = image.subvolume(subvolume)
        self.numbers = Numbers(subvolume, top.root.root_dirid)
        self._subvolumes: OrderedDict[int, Subvolume] = OrderedDict()
        self._inodes: OrderedDict[int, Inode] = OrderedDict()
        self._data: OrderedDict[int, FileData] = OrderedDict()
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._listed = 0  # names in all of them
        self._looked: OrderedDict[int, int] = OrderedDict()  # how often in which directory

    def inode(self, number: int) -> Inode:
        """Return the inode that has *number*; the lock is held."""
        inode = self._inodes.get(number)
        if inode is None:
            file = self.numbers.file(number)
            if file.ino == EMPTY_SUBVOL_DIR_OBJECTID and file.parent:
                inode = Inode.placeholder(self.inode(file.parent), file.name)
            else:
                inode = Inode(self.image, self.subvolume(file.subvolume), file.ino)
            self._inodes[number] = inode
            if len(self._inodes) > _INODES:
                self._inodes.popitem(last=False)
        return inode

    def subvolume(self, subvolume_id: int) -> Subvolume:
        """Return a subvolume whose tree remembers where it was asked; the lock is held."""
        subvolume = self._subvolumes.get(subvolume_id)
        if subvolume is None:
            plain = self.image.subvolume(subvolume_id)
            subvolume = plain._replace(tree=near(plain.tree))
            self._subvolumes[subvolume_id] = subvolume
            if len(self._subvolumes) > _SUBVOLUMES:
                self._subvolumes.popitem(last=False)
        return subvolume

    def data(self, number: int) -> FileData:
        """Return what it takes to read the regular file *number*; raises CorruptError."""
        data = self._data.get(number)  # without the lock: asked for every request
        if data is not None:
            return data
        with self.lock:
            data = self._data.get(number)
            if data is None:
                file = self.numbers.file(number)
                tree = self.subvolume(file.subvolume).tree
                payload = self._inode_item(tree, file)
                size, flags = payload_fields(payload)
                checksummed = not flags & InodeFlag.NODATASUM.value
                data = FileData(tree, file.subvolume, file.ino, size, checksummed=checksummed)
                self._data[number] = data
                if len(self._data) > _INODES:
                    self._data.popitem(last=False)
            return data

    @staticmethod
    def _inode_item(tree: Tree, file: File) -> bytes:
        payload = tree.find(Key(file.ino, ItemType.INODE_ITEM, 0))
        if payload is None or len(payload) < InodeItem.SIZE:
            raise CorruptError(f"inode {file.ino} of subvolume {file.subvolume} has no whole inode item")
        return payload

    def number_of(self, inode: Inode, parent: int, name: bytes) -> int:
        """Return the number of the inode that the entry *name* of the directory *parent* leads to."""
        if inode.is_placeholder:
            return self.numbers.placeholder(inode.subvolume.id, parent, name)
        return self.numbers.number(inode.subvolume.id, inode.ino)

    def child(self, parent: int, name: bytes) -> int:
        """Return the number of the entry *name* of the directory *parent*; raises NotFoundError."""
        with self.lock:
            directory = self.inode(parent)
            listing = self._listings.get(parent)
            if listing is None and self._often(directory, parent):
                listing = self.listing(parent)
            number = listing.find(name) if listing else 0
            if number:
                return number
            if directory.is_placeholder:
                raise RefusedRequest(errno.ENOENT)
            payload = directory.subvolume.tree.find(Key(directory.ino, ItemType.DIR_ITEM, name_hash(name)))
            for entry, objectid, kind, _ in names_in(payload or b""):
                if entry == name and kind == ItemType.INODE_ITEM:
                    return self.numbers.number(directory.subvolume.id, objectid)
            return self.number_of(namei.child_of(directory, name), parent, name)

    def _often(self, directory: Inode, number: int) -> bool:
        """Return whether names were looked for so often in a directory that it is quicker to list it."""
        count = self._looked.pop(number, 0) + 1
        # The size of a directory is twice that of its names, and to list one takes a tenth of looking for it.
        often = not directory.is_placeholder and count > 16 + directory.item.size // _LONG_NAME // 10
        self._looked[number] = 0 if often else count
        if len(self._looked) > _LOOKED:
            self._looked.popitem(last=False)
        return often

    def attributes(self, number: int) -> tuple[int, ...]:
        """Return the fields of an Attr; raises CorruptError when the inode item cannot be read."""
        with self.lock:
            return self._attributes(number)

    def _attributes(self, number: int) -> tuple[int, ...]:
        file = self.numbers.file(number)
        if file.ino == EMPTY_SUBVOL_DIR_OBJECTID:
            payload = self.inode(number).item.pack()
        else:
            payload = self._inode_item(self.subvolume(file.subvolume).tree, file)
        return attributes_of(payload, self.numbers.shown(number), self.image.volume.sectorsize)

    def several(self, numbers: Sequence[int]) -> list[tuple[int, ...] | None]:
        """Return the attributes of every number, None where they cannot be read."""
        with self.lock:
            try:
                return self._several(numbers)
            except CorruptError:
                return [self._or_none(number) for number in numbers]

    def _several(self, numbers: Sequence[int]) -> list[tuple[int, ...] | None]:
        """Return the same if all are inodes of one subvolume, as those of a directory are, and nothing is wrong."""
        files = [self.numbers.file(number) if number else None for number in numbers]
        subvolumes = {file.subvolume for file in files if file}
        tree = self.subvolume(subvolumes.pop()).tree if len(subvolumes) == 1 else None
        if not isinstance(tree, NearTree) or any(file and file.name for file in files):
            return [self._or_none(number) for number in numbers]
        sectorsize = self.image.volume.sectorsize
        found: list[tuple[int, ...] | None] = []
        keys = ((file.ino if file else 0, int(ItemType.INODE_ITEM), 0) for file in files)
        for number, place in zip(numbers, tree.places(keys), strict=True):
            if place is None or len(place[1]) < InodeItem.SIZE:
                found.append(self._or_none(number))
            else:
                leaf, where = place
                found.append(attributes_of(leaf.data, self.numbers.shown(number), sectorsize, where.start))
        return found

    def _or_none(self, number: int) -> tuple[int, ...] | None:
        try:
            return self._attributes(number) if number else None
        except CorruptError as error:
            self.image.report(error)
            return None

    def statx(self, number: int) -> Statx:
        """Return what *number* is, and when it was made."""
        with self.lock:
            item = self.inode(number).item
        attr = Attr(*attributes_of(item.pack(), self.numbers.shown(number), self.image.volume.sectorsize))
        return Statx(
            mask=STATX_BASIC_STATS | STATX_BTIME,
            blksize=attr.blksize,
            attributes=0,
            nlink=attr.nlink,
            uid=attr.uid,
            gid=attr.gid,
            mode=attr.mode & 0xFFFF,
            spare0=0,
            ino=attr.ino,
            size=attr.size,
            blocks=attr.blocks,
            attributes_mask=0,
            atime=_time(item.atime),
            btime=_time(item.otime),
            ctime=_time(item.ctime),
            mtime=_time(item.mtime),
            rdev_major=item.rdev >> 20 & 0xFFF,
            rdev_minor=item.rdev & 0xFFFFF,
            dev_major=0,
            dev_minor=0,
            spare2=(0,) * 14,
        )

    def flags(self, number: int) -> int:
        """Return the flags of the inode, InodeFlag."""
        with self.lock:
            return self.inode(number).item.flags

    def generation(self, number: int) -> int:
        """Return the generation in which the inode was made."""
        with self.lock:
            return self.inode(number).item.generation

    def target(self, number: int) -> bytes:
        """Return where a symlink points."""
        with self.lock:
            return self.inode(number).target()

    def xattrs(self, number: int) -> dict[bytes, bytes]:
        """Return the extended attributes."""
        with self.lock:
            file = self.numbers.file(number)
            if file.parent:  # a placeholder
                return {}
            tree = self.subvolume(file.subvolume).tree
            if isinstance(tree, NearTree):  # most files have none, and programs ask for several
                first = Key(file.ino, ItemType.XATTR_ITEM, 0)
                if not any(slots for _, slots in tree.leaves(first, first._replace(offset=_U64))):
                    return {}
            return self.inode(number).xattrs()

    def seek(self, number: int, offset: int, whence: int) -> int:
        """Return the next offset from *offset* on that has data (SEEK_DATA), or none (SEEK_HOLE).

        As btrfs's own ``find_desired_extent`` sees it: what is preallocated and not written is a hole, and so
        is the end. A file that takes as many bytes as its size has no holes, unless its flags speak of preallocation.
        """
        with self.lock:
            inode = self.inode(number)
            item = inode.item
            size = item.size
            if offset >= size:
                raise RefusedRequest(errno.ENXIO)
            if whence == os.SEEK_HOLE and item.nbytes == size and not item.flags & InodeFlag.PREALLOC:
                return size
            at = offset
            for first, last in _data_ranges(inode, offset):
                if first >= size:
                    break
                if whence == os.SEEK_DATA:
                    return max(at, first)
                if first > at:
                    break
                at = last
        if whence == os.SEEK_DATA:
            raise RefusedRequest(errno.ENXIO)
        return min(at, size)

    def listing(self, number: int) -> Listing:
        """Return the names of a directory, those that can be read; always in the same order."""
        with self.lock:
            listing = self._listings.get(number)
            if listing is not None:
                self._listings.move_to_end(number)
            else:
                listing = self._listings[number] = self._list(number)
                self._listed += len(listing)
                while self._listed > _ENTRIES and len(self._listings) > 1:
                    self._listed -= len(self._listings.popitem(last=False)[1])
        return listing

    def _list(self, number: int) -> Listing:
        directory = self.inode(number)
        base, plain = self.numbers.plain(directory.subvolume.id)

        def number_of(name: bytes, objectid: int, kind: int) -> int:
            if kind == ItemType.INODE_ITEM:
                return self.numbers.number(directory.subvolume.id, objectid)
            return self._subvolume_entry(directory, name, number)

        listing = Listing(self.numbers.shown(number), plain, base, number_of)
        if directory.is_placeholder:
            return listing
        try:
            listing.add_all(directory)
        except CorruptError:
            faults = self.image.faults
            listing.add(_name_of(entry) for entry in namei.entries(directory))  # which reports, and skips what is bad
            listing.complete &= self.image.faults == faults
        return listing

    def _subvolume_entry(self, directory: Inode, name: bytes, number: int) -> int:
        try:
            return self.number_of(namei.child_of(directory, name), number, name)
        except (CorruptError, NotFoundError) as error:
            self.image.report(CorruptError(str(error)))
            return 0


def payload_fields(payload: bytes) -> tuple[int, int]:
    """Return size and flags of a whole inode item; as a Record it takes ten times as long."""
    fields = InodeItem.STRUCT.unpack_from(payload)
    return fields[_SIZE], fields[_FLAGS]


def attributes_of(data: bytes, ino: int, sectorsize: int, at: int = 0) -> tuple[int, ...]:
    """Return the fields of an Attr that the inode item at byte *at* of *data* says, as ``btrfs_getattr`` shows them.

    The item is whole. It is done without Records: a listing has thousands.
    """
    item = InodeItem.STRUCT.unpack_from(data, at)
    _, _, size, nbytes, _, nlink, uid, gid, mode, rdev, *_ = item
    atime, atime_ns, ctime, ctime_ns, mtime, mtime_ns = item[_TIMES]
    minor = rdev & 0xFFFFF
    return (
        *(ino, size, round_up(nbytes, sectorsize) >> 9, atime & _U64, mtime & _U64, ctime & _U64),
        *(atime_ns, mtime_ns, ctime_ns, mode, nlink, uid, gid),
        *(minor & 0xFF | (rdev >> 20 & 0xFFF) << 8 | (minor & ~0xFF) << 12, sectorsize, 0),
    )


def _name_of(entry: DirItem) -> Name:
    return entry.name, entry.location.objectid, entry.location.type, entry.type


def _time(time: Timespec) -> SxTime:
    return SxTime(time.sec, time.nsec, 0)


def _data_ranges(inode: Inode, start: int) -> Iterator[tuple[int, int]]:
    sectorsize = inode.image.volume.sectorsize
    for row in file_extents(inode, start):
        if row.kind not in ("hole", "prealloc"):
            yield row.offset, round_up(row.end, sectorsize)
