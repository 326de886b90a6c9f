"""Files by number, for a kernel that has forgotten them: what ``open_by_handle_at`` and servers of NFS have kept.

A number says which inode it is (:mod:`numbers`), so a handle is good for as long as the image is, also in another mount
of it. Those who ask may have made it up, so that what it leads to must be a file of this mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.filesystem.inode import Inode
from btrimg.filesystem.namei import links, path_in_subvolume
from btrimg.mount.wire import ROOT

if TYPE_CHECKING:
    from btrimg.mount.numbers import File
    from btrimg.mount.tree import Files


def found(files: Files, number: int) -> int:
    """Return *number* if a file has it that a path from the top leads to; raises NotFoundError else.

    The few numbers that another mount may give to another file are found by no handle.
    """
    file = files.numbers.plain_file(number)
    with files.lock:
        if file is None or not _has_path(files, file):
            raise NotFoundError(f"no path leads to a file with the number {number}")
    return number


def above(files: Files, number: int) -> int:
    """Return the number of the directory that the directory *number* is in; raises NotFoundError."""
    file = files.numbers.file(number)
    with files.lock:
        parent = _parent(files, file)
    if parent is None:
        raise NotFoundError(f"the directory {number} is in none")
    return parent


def _parent(files: Files, file: File) -> int | None:
    """Return the number of a directory in which *file* has a name."""
    if file.parent:
        return file.parent
    subvolume = files.subvolume(file.subvolume)
    if file == files.numbers.file(ROOT):
        return ROOT
    if file.ino == subvolume.root.root_dirid:
        parent = files.image.parent_of(file.subvolume)
        return files.numbers.number(parent.subvolume, parent.dirid) if parent else None
    link = next(links(Inode(files.image, subvolume, file.ino)), None)
    return files.numbers.number(file.subvolume, link.parent) if link else None


def _has_path(files: Files, file: File) -> bool:
    """Return whether a path from the top leads to *file*: also what images say that were made up must end."""
    start = files.numbers.file(ROOT).subvolume
    subvolume, ino = file.subvolume, file.ino
    seen: set[int] = set()
    while subvolume not in seen and path_in_subvolume(files.image, files.subvolume(subvolume), ino) is not None:
        if subvolume == start:
            return True
        seen.add(subvolume)
        parent = files.image.parent_of(subvolume)
        if parent is None:
            return False
        subvolume, ino = parent.subvolume, parent.dirid
    return False
