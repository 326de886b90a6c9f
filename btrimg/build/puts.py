"""Files and directories of the host, each on its way to a path, as entries of the directory that they go to."""

from __future__ import annotations

import os

from btrimg.build.directory import Selection, open_unnoticed, reader_of_anything
from btrimg.build.entries import Entry
from btrimg.build.paths import Spot
from btrimg.errors import RefusedError
from btrimg.filesystem.edit_names import entry_named
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.constants import FileType, ItemType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.build.paths import Paths
    from btrimg.build.values import Put
    from btrimg.ondisk.inodes import Timespec

MANY = 64  #: puts for which it pays to read ahead in a process of its own


def read_puts(
    puts: Sequence[Put],
    directory: bytes,
    sectorsize: int,
    selection: Selection,
    now: Timespec,
    warn: Callable[[str], None] = lambda _text: None,
) -> Iterator[Entry]:
    """Yield the entries of *puts*, with paths from the directory that they go to.

    Paths of the host go from *directory*. As cp -a cannot keep the times of change and of creation, they are *now*.
    """
    usual = reader_of_anything(sectorsize, selection, warn)
    for put in puts:
        name = put.path.rpartition(b"/")[2]
        read = usual
        if put.owner is not None:
            read = reader_of_anything(sectorsize, selection._replace(owner=put.owner), warn)
        for entry in read(os.path.join(directory, put.host)):
            below, mode, owner, times, *said, same_as = entry
            at = name + b"/" + below if below else name
            times = (*times[:2], *now, *times[4:6], *now)
            yield Entry._make((at, mode, owner, times, *said, same_as and name + b"/" + same_as))


def refuse_clashes(host: bytes, paths: Paths, path: bytes) -> None:
    """Raise RefusedError when *host* cannot be put at *path*: before anything is made.

    What is below a directory goes into the one that is there, as by cp -a; but a directory does not take the place of
    what is none, nor the other way round, and nothing is put into a subvolume on the way.
    """
    parent, name = paths.parent(path)
    into = _merges(parent, name, path, is_directory=os.path.isdir(host)) if name else parent
    waiting = [] if into is None else [(host, into, path if name else b"")]
    while waiting:
        host, directory, path = waiting.pop()
        for name, is_directory in _listing(host):
            at = path + b"/" + name
            into = _merges(directory, name, at, is_directory=is_directory)
            if into is not None:
                waiting.append((os.path.join(host, name), into, at))


def _merges(parent: Spot, name: bytes, path: bytes, *, is_directory: bool) -> Spot | None:
    """Return the directory of that *name* when a directory goes there, too; raise RefusedError at a clash."""
    entry = entry_named(parent.files.tree, parent.ino, name)
    if entry is None:
        return None
    if entry.location.type != ItemType.INODE_ITEM:
        raise RefusedError(f"{quoted(path)}: a subvolume has this name")
    if (entry.type == FileType.DIR) != is_directory:
        raise RefusedError(f"{quoted(path)}: {clash(entry.type)}")
    return Spot(parent.files, entry.location.objectid) if is_directory else None


def _listing(host: bytes) -> list[tuple[bytes, bool]]:
    """Return the names in a directory of the host, in order, and which of them are directories."""
    try:
        fd = open_unnoticed(host, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # who reads it will hear of that
        return []
    try:
        with os.scandir(fd) as entries:
            return sorted((os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in entries)
    finally:
        os.close(fd)


def clash(kind: int) -> str:
    """Return why what is put there cannot take the place of something of that *kind*."""
    if kind == FileType.DIR:
        return "this is a directory, and what is put there is none"
    return "this is no directory, and what is put there is one"
