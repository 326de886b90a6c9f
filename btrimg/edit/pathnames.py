"""Paths of people, in which symbolic links are followed: to those of recipes, in which they are not."""

from __future__ import annotations

from btrimg.errors import NotFoundError
from btrimg.filesystem.inode import quoted
from btrimg.filesystem.namei import MAX_SYMLINKS
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import NAME_MAX, FileType, ItemType
from btrimg.ondisk.extents import FileExtentInline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.build.paths import Paths, Spot
    from btrimg.ondisk.inodes import DirItem


def image_path(path: bytes) -> bytes:
    """Return an absolute path without needless slashes.

    Raises ValueError when it is none.
    """
    if not path:
        raise ValueError("name a path in the image; / is the top-level subvolume")
    if not path.startswith(b"/"):
        raise ValueError(f"{quoted(path)} does not begin with /: paths start at the top-level subvolume")
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    for name in names:
        if name == b".." or b"\0" in name or len(name) > NAME_MAX:
            raise ValueError(f"{quoted(path)} is no path: a name has up to {NAME_MAX} bytes, and is not '..'")
    return b"/" + b"/".join(names)


class PathNames:
    """The names that *paths* knows, as whoever types them means them."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def place(self, path: bytes) -> bytes:
        """Return *path* with the symbolic links on the way to its last name followed."""
        head, _, name = path.rpartition(b"/")
        if not head:
            return path
        try:
            self._paths.directory(head)
        except NotFoundError:
            head = self._followed(head, path)
        return (b"" if head == b"/" else head) + b"/" + name

    def target(self, path: bytes) -> bytes:
        """Return *path* with all symbolic links followed.

        Raises NotFoundError when it leads nowhere.
        """
        entry = self.entry(path)
        return self._followed(path, path) if entry and entry.type == FileType.SYMLINK else self.place(path)

    def entry(self, path: bytes) -> DirItem | None:
        """Return the entry at *path*, None when there is none, and for the top.

        Raises NotFoundError when it leads through what is not there.
        """
        place = self.place(path)
        return None if place == b"/" else self._paths.entry(place)

    def is_directory(self, path: bytes) -> bool:
        """Return whether there is a directory at *path*, links followed."""
        try:
            self._paths.directory(self.target(path))
        except NotFoundError:
            return False
        return True

    def find(self, path: bytes) -> Spot:
        """Return the inode at *path*, links followed.

        Raises NotFoundError when there is none.
        """
        return self._paths.find(self.target(path))

    def _followed(self, path: bytes, whole: bytes) -> bytes:
        """Return the path of what *path* leads to, which may be missing if it is the last name."""
        names = path.split(b"/")[::-1]
        at: list[bytes] = []
        links = 0
        while names:
            name = names.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                at = at[:-1]
                continue
            here = b"/" + b"/".join((*at, name))
            entry = self._paths.entry(here)
            if entry is None or entry.type != FileType.SYMLINK:
                at.append(name)
                continue
            links += 1
            if links > MAX_SYMLINKS:
                raise NotFoundError(f"{quoted(whole)}: too many symbolic links")
            says = self._says(here)
            at = [] if says.startswith(b"/") else at
            names += says.split(b"/")[::-1]
        return b"/" + b"/".join(at)

    def _says(self, path: bytes) -> bytes:
        files, ino = self._paths.find(path)
        payload = files.tree.find(Key(ino, ItemType.EXTENT_DATA, 0))
        return payload[FileExtentInline.SIZE :] if payload else b""
