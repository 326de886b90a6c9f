"""From paths of a recipe to inodes of a transaction: subvolumes are crossed, symlinks are not followed."""

from __future__ import annotations

from btrimg.errors import NotFoundError
from btrimg.filesystem.edit_names import entry_named
from btrimg.filesystem.inode import quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import FileType, ItemType, TreeId
from btrimg.write import subvolumes
from btrimg.write.files import Files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.inodes import DirItem
    from btrimg.write.transaction import Transaction

_KEPT = 10_000  # directories whose places are remembered


class Spot(NamedTuple):
    """An inode, and the subvolume that it is in."""

    files: Files
    ino: int


class Paths:
    """The names of a filesystem as *txn* changes them."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._files: dict[int, Files] = {}
        self._directories: dict[bytes, Spot] = {}

    def files(self, subvolume_id: int) -> Files:
        """Return the files of a subvolume, always the same ones."""
        if subvolume_id not in self._files:
            self._files[subvolume_id] = Files(self._txn, subvolume_id)
        return self._files[subvolume_id]

    def adopt(self, files: Files) -> None:
        """Learn of the files of a new subvolume."""
        self._files[files.id] = files

    def forget(self, subvolume_id: int | None = None) -> None:
        """Forget where names led, since some were taken away; and a subvolume that is gone."""
        self._directories.clear()
        if subvolume_id is not None:
            self._files.pop(subvolume_id, None)

    def find(self, path: bytes) -> Spot:
        """Return the inode at *path*; of a subvolume its top directory.

        Raises NotFoundError when it is not there, or a directory on the way is none.
        """
        parent, name = self.parent(path)
        return self._below(parent, name, path)[0] if name else parent

    def entry(self, path: bytes) -> DirItem | None:
        """Return the entry at *path*, which is not ``/``, None when there is none; raise as :meth:`parent` does."""
        parent, name = self.parent(path)
        return entry_named(parent.files.tree, parent.ino, name)

    def missing(self, path: bytes) -> list[bytes]:
        """Return those of *path* and the directories above it that are not there, the highest first."""
        missing: list[bytes] = []
        names = path[1:].split(b"/")
        spot = self.directory(b"")
        for count in range(1, len(names) + 1):
            at = b"/" + b"/".join(names[:count])
            if missing or entry_named(spot.files.tree, spot.ino, names[count - 1]) is None:
                missing.append(at)
            elif count < len(names):
                spot = self.directory(at)
        return missing

    def parent(self, path: bytes) -> tuple[Spot, bytes]:
        """Return the directory that *path* is in, and the name there; of ``/`` itself, and no name.

        Raises NotFoundError when it is not there.
        """
        head, _, name = path.rpartition(b"/")
        return self.directory(head), name

    def directory(self, path: bytes) -> Spot:
        """Return the directory at *path*, absolute or empty for the top.

        Raises NotFoundError when there is none.
        """
        found = self._directories.get(path)
        if found:
            return found
        known = path.rstrip(b"/")
        while known and known not in self._directories:
            known = known.rpartition(b"/")[0]
        spot = self._directories.get(known) or Spot(self.files(TreeId.FS_TREE), TreeId.FIRST_FREE)
        for name in filter(None, path[len(known) :].split(b"/")):
            known += b"/" + name
            spot, kind = self._below(spot, name, known)
            if kind != FileType.DIR:
                raise NotFoundError(f"{quoted(known)} is not a directory")
            if len(self._directories) >= _KEPT:
                self._directories.clear()
            self._directories[known] = spot
        return spot

    def _below(self, directory: Spot, name: bytes, path: bytes) -> tuple[Spot, int]:
        entry = entry_named(directory.files.tree, directory.ino, name)
        if entry is None:
            raise NotFoundError(f"{quoted(path)} is not there")
        where = entry.location
        if where.type == ItemType.ROOT_ITEM:
            place = subvolumes.place_of(self._txn, where.objectid)
            if place is None or place[:2] != (directory.files.id, directory.ino) or place.name != name:
                raise NotFoundError(f"{quoted(path)} stands for a subvolume that is elsewhere")
            return Spot(self.files(where.objectid), TreeId.FIRST_FREE), entry.type
        return Spot(directory.files, where.objectid), entry.type
