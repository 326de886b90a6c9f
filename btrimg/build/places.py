"""Where a recipe changes things: places that are free and may be written to, directories that keep their times."""

from __future__ import annotations

import stat

from btrimg.errors import RefusedError
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.constants import FileType, RootFlag, TreeId
from btrimg.write import inodes, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.build.paths import Paths, Spot
    from btrimg.build.values import Attributes
    from btrimg.ondisk.record import Value
    from btrimg.write.files import Files
    from btrimg.write.transaction import Transaction


class Places:
    """Finds places by *paths* of *txn*; an *edit* may go on after a refusal, so that nothing is made before it."""

    def __init__(self, txn: Transaction, paths: Paths, *, edit: bool) -> None:
        self._txn, self._paths, self._edit = txn, paths, edit
        self._readonly: dict[int, bool] = {}  # subvolumes, as far as somebody asked
        self._given_times: dict[tuple[int, int], dict[str, Value]] = {}  # of directories, by subvolume and inode

    # What may be changed

    def set_read_only(self, subvolume: int, read_only: bool) -> None:
        """Learn that a subvolume is, or is not any more."""
        self._readonly[subvolume] = read_only

    def changeable(self, parent: Spot, name: bytes) -> tuple[Spot, bytes]:
        """Return what was given; raise RefusedError when its subvolume is read-only."""
        subvolume = parent.files.id
        if subvolume not in self._readonly:
            self._readonly[subvolume] = bool(self._txn.root_item(subvolume).flags & RootFlag.SUBVOL_RDONLY)
        if self._readonly[subvolume]:
            raise RefusedError("its subvolume is read-only: `set` it readonly = false before")
        return parent, name

    def to_change(self, path: bytes) -> Spot:
        """Return the inode at *path*, whose subvolume can be changed."""
        spot = self._paths.find(path)
        self.changeable(spot, b"")
        return spot

    def directory_to_change(self, path: bytes) -> Spot:
        """Return the directory at *path*, likewise."""
        spot = self.to_change(path)
        if not stat.S_ISDIR(inodes.read(*spot).mode):
            raise RefusedError(f"{quoted(path)} is not a directory")
        return spot

    def subvolume(self, path: bytes) -> Files:
        """Return the subvolume at *path*, which may be read-only."""
        files, ino = self._paths.find(path)
        if ino != TreeId.FIRST_FREE:
            raise RefusedError(f"{quoted(path)} is no subvolume")
        return files

    # What is new

    def place(self, path: bytes) -> tuple[Spot, bytes]:
        """Return the directory for something new at *path*, and its name there, which whoever makes it finds free.

        In an edit it is found free before anything is made.
        """
        parent, name = self.changeable(*self._paths.parent(path))
        if self._edit:
            names.free_place(parent.files, parent.ino, name)
        return parent, name

    def enter(self, parent: Spot, name: bytes, ino: int, kind: FileType) -> None:
        """Give an inode its name in a directory."""
        names.enter(parent.files, parent.ino, name, ino, kind)
        self.touched(parent)

    # Times of directories

    def touched(self, directory: Spot) -> None:
        """Give a directory, whose entries changed, the times back that the recipe gave it."""
        given = self._given_times.get((directory.files.id, directory.ino))
        if given:
            inodes.change(directory.files, directory.ino, **given)

    def remember_times(self, directory: Spot, said: Attributes) -> None:
        """Remember which times the recipe gives a directory."""
        given: dict[str, Value] = {}
        if said.mtime is not None:
            given["mtime"] = said.mtime
        if said.ctime is not None:
            given["ctime"] = said.ctime
        if given:
            self._given_times.setdefault((directory.files.id, directory.ino), {}).update(given)

    def forget_times(self) -> None:
        """Let directories that change from now on have the time of that."""
        self._given_times.clear()
