"""One inode: its fields, times, names and xattrs, and the way to its data."""

from __future__ import annotations

import stat

from btrimg.errors import CorruptError, NotFoundError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID, U64_MAX, FileType, InodeFlag, ItemType
from btrimg.ondisk.inodes import DirItem, InodeItem
from btrimg.ondisk.items import records_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image, Subvolume
    from btrimg.filesystem.namei import Link
    from btrimg.filesystem.translate import Resolution

PATH_MAX = 4096


def quoted(path: bytes) -> str:
    """Return *path* as messages show it: in quotes, all but printable ASCII escaped; the top directory is ``/``."""
    return ascii((path or b"/").decode("utf-8", "surrogateescape"))


class Inode:
    """An inode of a subvolume, reached as *name* of *directory*, where an entry says *entry_type*."""

    __slots__ = ("_directory", "_entry_type", "_item", "_name", "image", "ino", "subvolume")

    def __init__(
        self,
        image: Image,
        subvolume: Subvolume,
        ino: int,
        directory: Inode | None = None,
        name: bytes = b"",
        entry_type: int = FileType.UNKNOWN,
    ) -> None:
        self.image, self.subvolume, self.ino = image, subvolume, ino
        self._directory, self._name, self._entry_type = directory, name, entry_type
        self._item: InodeItem | None = None

    @property
    def path(self) -> bytes:
        """Return the path from where the lookup started, which itself is ``b""``.

        It is put together when asked for: kept, the paths of a nest of 3,000 directories took a gigabyte.
        """
        names: list[bytes] = []
        inode = self
        while inode._directory is not None:
            names += (inode._name, b"/")
            inode = inode._directory
        return b"".join(reversed(names))

    @classmethod
    def placeholder(cls, directory: Inode, name: bytes) -> Inode:
        """Return the empty directory that stands where a snapshot's origin had a subvolume.

        Mode, owner and times are the kernel's (fs/btrfs/inode.c ``new_simple_dir``), its "now" the parent's mtime.
        """
        inode = cls(directory.image, directory.subvolume, EMPTY_SUBVOL_DIR_OBJECTID, directory, name)
        parent = directory.item
        inode._item = InodeItem.unpack(bytes(InodeItem.SIZE)).replace(
            mode=stat.S_IFDIR | 0o755,
            nlink=1,
            uid=parent.uid,
            gid=parent.gid,
            atime=parent.atime,
            ctime=parent.mtime,
            mtime=parent.mtime,
            otime=parent.mtime,
        )
        return inode

    @property
    def item(self) -> InodeItem:
        """Return the inode item.

        Raises CorruptError when a name leads here and there is no inode item, or a block cannot be read.
        """
        if self._item is None:
            try:
                payload = self.subvolume.tree.get(Key(self.ino, ItemType.INODE_ITEM, 0))
            except NotFoundError:
                raise CorruptError(f"inode {self.ino} of subvolume {self.subvolume.id} has no inode item") from None
            self._item = InodeItem.unpack(payload)
        return self._item

    @property
    def quoted(self) -> str:
        """Return the path as messages show it."""
        return quoted(self.path)

    @property
    def is_placeholder(self) -> bool:
        """Return whether this is the stand-in for a subvolume that is not there."""
        return self.ino == EMPTY_SUBVOL_DIR_OBJECTID

    @property
    def is_subvolume(self) -> bool:
        """Return whether this is the top directory of a subvolume."""
        return self.ino == self.subvolume.root.root_dirid

    @property
    def is_directory(self) -> bool:
        """Return whether this is a directory; a subvolume's top one always is.

        Where the inode item is lost, which is reported, the entry's word counts: what is below may be sound.
        """
        if self.is_subvolume:
            return True
        try:
            return stat.S_ISDIR(self.item.mode)
        except CorruptError as error:
            if self._entry_type != FileType.DIR:
                raise
            self.image.report(error)
            return True

    @property
    def is_regular(self) -> bool:
        """Return whether this is a regular file."""
        return stat.S_ISREG(self.item.mode)

    @property
    def checksummed(self) -> bool:
        """Return whether the data has checksums."""
        return not self.item.flags & InodeFlag.NODATASUM

    def entries(self) -> Iterator[tuple[DirItem, Inode]]:
        """Yield the entries of this directory in order of creation, each with its inode; bad ones are reported."""
        from btrimg.filesystem import namei

        for entry in () if self.is_placeholder else namei.entries(self):
            try:
                yield entry, namei.inode_of_entry(self, entry)
            except CorruptError as error:
                self.image.report(error)

    def links(self) -> list[Link]:
        """Return every name of this inode within its subvolume."""
        from btrimg.filesystem import namei

        return list(namei.links(self))

    def xattrs(self) -> dict[bytes, bytes]:
        """Return the extended attributes, names with their prefix (``user.``, ``security.``, ``btrfs.`` …)."""
        first, last = Key(self.ino, ItemType.XATTR_ITEM, 0), Key(self.ino, ItemType.XATTR_ITEM, U64_MAX)
        return {
            entry.name: entry.data
            for _, payload in self.subvolume.tree.items(first, last)
            for entry in records_of(DirItem, ItemType.XATTR_ITEM, payload)
        }

    def target(self) -> bytes:
        """Return where this symlink points.

        Raises CorruptError when the target is longer than any path.
        """
        if self.item.size > PATH_MAX:
            raise CorruptError(f"symlink {self.ino} of subvolume {self.subvolume.id} has {self.item.size} bytes")
        return self.read(0, self.item.size)

    def extents(self, *, holes: bool = False, pieces: bool = False) -> Iterator[FileExtentRow]:
        """Yield the file extents in order; see :func:`btrimg.filesystem.extents.file_extents`."""
        from btrimg.filesystem import extents

        rows = extents.file_extents(self, holes=holes)
        return extents.split_at_stripes(self.image, rows) if pieces else rows

    def read(self, offset: int, length: int, *, verify: bool = True) -> bytes:
        """Return file bytes [offset, offset + length), fewer at the end of the file; see :mod:`.data`."""
        from btrimg.filesystem import data

        return data.read(self, offset, length, verify=verify)

    def resolve(self, offset: int) -> Resolution:
        """Return every place where the byte at *offset* lies; see :func:`btrimg.filesystem.translate.resolve`."""
        from btrimg.filesystem import translate

        return translate.resolve(self, offset)
