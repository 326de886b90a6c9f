"""Files and directories of the host, each on its way to a path, as entries of the directory that they go to."""

from __future__ import annotations

import os
from contextlib import suppress

from btrimg.build.directory import Selection, read_anything
from btrimg.build.paths import Spot
from btrimg.errors import RefusedError
from btrimg.filesystem.edit_names import entry_named
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.constants import FileType, ItemType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.build.entries import Entry
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
    for put in puts:
        name = put.path.rpartition(b"/")[2]
        chosen = selection if put.owner is None else selection._replace(owner=put.owner)
        for entry in read_anything(os.path.join(directory, put.host), sectorsize, chosen, warn):
            path, times, same_as = entry.path, entry.times, entry.same_as
            yield entry._replace(
                path=name + b"/" + path if path else name,
                times=(*times[:2], *now, *times[4:6], *now),
                same_as=None if same_as is None else name + b"/" + same_as,
            )


def refuse_clashes(host: bytes, paths: Paths, path: bytes) -> None:
    """Raise RefusedError when *host* cannot be put at *path*: before anything is made.

    What is below a directory goes into the one that is there, as by cp -a; but a directory does not take the place of
    what is none, nor the other way round, and nothing is put into a subvolume on the way.
    """
    parent, name = paths.parent(path)
    if name:
        _refuse(host, parent, name, path, is_directory=os.path.isdir(host))
    else:
        _refuse_below(host, parent, b"")


def _refuse(host: bytes, parent: Spot, name: bytes, path: bytes, *, is_directory: bool) -> None:
    entry = entry_named(parent.files.tree, parent.ino, name)
    if entry is None:
        return
    if entry.location.type != ItemType.INODE_ITEM:
        raise RefusedError(f"{quoted(path)}: a subvolume has this name")
    if (entry.type == FileType.DIR) != is_directory:
        raise RefusedError(f"{quoted(path)}: {clash(entry.type)}")
    if is_directory:
        _refuse_below(host, Spot(parent.files, entry.location.objectid), path)


def _refuse_below(host: bytes, directory: Spot, path: bytes) -> None:
    with suppress(OSError):  # who reads it will hear of that
        for each in sorted(os.scandir(host), key=lambda each: each.name):
            at = path + b"/" + each.name
            _refuse(each.path, directory, each.name, at, is_directory=each.is_dir(follow_symlinks=False))


def clash(kind: int) -> str:
    """Return why what is put there cannot take the place of something of that *kind*."""
    if kind == FileType.DIR:
        return "this is a directory, and what is put there is none"
    return "this is no directory, and what is put there is one"
