"""A subvolume whose files a transaction changes: what every operation on them needs."""

from __future__ import annotations

from btrimg.errors import RefusedError
from btrimg.ondisk.blocks import Header, Item, Key
from btrimg.ondisk.constants import U64_MAX, Incompat, ItemType, TreeId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.inodes import Timespec
    from btrimg.trees.overlay import OverlayTree
    from btrimg.write.transaction import Transaction

_NO_HOLES = int(Incompat.NO_HOLES)  # an operation of an IntFlag takes 1 us, and this is asked for every file
_FIRST_INDEX = 2  # fs/btrfs/btrfs_inode.h BTRFS_DIR_START_INDEX: 0 and 1 would be "." and ".."


class Files:
    """The files of subvolume *subvolume_id*, as *txn* changes them.

    It knows the next inode number, and the next index of each directory, because to look them up for every new name
    would cost more than all the rest. So a subvolume has one Files at a time, and nothing else makes inodes or names
    in it meanwhile.
    """

    __slots__ = ("_next_index", "_next_ino", "id", "txn")

    def __init__(self, txn: Transaction, subvolume_id: int) -> None:
        self.txn, self.id = txn, subvolume_id
        self._next_ino = 0  # not known yet
        self._next_index: dict[int, int] = {}

    @property
    def tree(self) -> OverlayTree:
        """Return the tree of the files; it is another one after a flush."""
        return self.txn.tree(self.id)

    @property
    def now(self) -> Timespec:
        """Return the time of every change."""
        return self.txn.now

    @property
    def generation(self) -> int:
        """Return the transid of every change."""
        return self.txn.generation

    @property
    def sectorsize(self) -> int:
        """Return the bytes of a sector."""
        return self.txn.volume.sectorsize

    @property
    def room(self) -> int:
        """Return the bytes of the largest payload of an item (fs/btrfs/fs.h ``BTRFS_MAX_ITEM_SIZE``)."""
        return self.txn.volume.nodesize - Header.SIZE - Item.SIZE

    @property
    def no_holes(self) -> bool:
        """Return whether holes of files have no items."""
        return bool(int(self.txn.superblock.incompat_flags) & _NO_HOLES)

    def new_ino(self) -> int:
        """Return the number for a new inode, one above the highest (fs/btrfs/disk-io.c ``btrfs_get_free_objectid``).

        Raises RefusedError when there is none.
        """
        if not self._next_ino:
            found = self.tree.floor(Key(TreeId.LAST_FREE, 255, U64_MAX))
            self._next_ino = max(found[0].objectid if found else 0, TreeId.FIRST_FREE - 1) + 1
        if self._next_ino > TreeId.LAST_FREE:
            raise RefusedError(f"subvolume {self.id} has used up all inode numbers: it can have no new file")
        self._next_ino += 1
        return self._next_ino - 1

    def reserve_ino(self, ino: int) -> None:
        """Let numbers given out from now on be above *ino*, which the caller has chosen."""
        if self._next_ino and ino >= self._next_ino:
            self._next_ino = ino + 1

    def new_index(self, directory: int) -> int:
        """Return the index for a new entry, one above the last (fs/btrfs/inode.c ``btrfs_set_inode_index``).

        Raises RefusedError when there is none.
        """
        index = self._next_index.get(directory)
        if index is None:
            key = Key(directory, ItemType.DIR_INDEX, U64_MAX)
            found = self.tree.floor(key)
            index = found[0].offset + 1 if found and found[0][:2] == key[:2] else _FIRST_INDEX
        if index > U64_MAX:
            raise RefusedError(f"directory {directory} has used up all indexes: it can have no new name")
        self._next_index[directory] = index + 1
        return index

    def begin_directory(self, directory: int, index: int = _FIRST_INDEX) -> int:
        """Let *index* be the next in *directory*, which is new, so that nothing need be looked up; return it."""
        self._next_index[directory] = index
        return index

    def forget_directory(self, directory: int) -> None:
        """Forget the next index of a directory that is gone."""
        self._next_index.pop(directory, None)
