"""Write down all that the kernel says of a mounted filesystem."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple

from . import kernel

_LARGEST_CONTENT = 64 << 20
_PLACEHOLDER_INO = 2  # BTRFS_EMPTY_SUBVOL_DIR_OBJECTID: what a snapshot shows where its origin had a subvolume
_pool: dict[str, bytes] = {}  # content by digest: the images of one session hold the same files


class Entry(NamedTuple):
    """One name in the tree; hard links are one entry each."""

    path: bytes  # from the top-level subvolume, with a leading slash
    subvolume: int  # id of the tree that holds the inode
    stat: kernel.Stat
    xattrs: dict[bytes, bytes]
    target: bytes | None = None  # symlinks
    names: tuple[bytes, ...] | None = None  # directories: as readdir() gives them
    content: bytes | None = None  # regular files up to 64 MiB
    sha256: str | None = None
    extents: tuple[kernel.FiemapRow, ...] = ()

    @property
    def is_placeholder(self) -> bool:
        """Say whether this stands for a subvolume that was not snapshotted; it has no item on disk."""
        return self.stat.ino == _PLACEHOLDER_INO


class Subvolume(NamedTuple):
    """A subvolume and where it is found."""

    path: bytes  # from the top-level subvolume; b"/" for that one
    info: kernel.SubvolumeInfo


class Truth(NamedTuple):
    """Everything that can be reached from the top-level subvolume."""

    subvolumes: dict[int, Subvolume]
    entries: dict[bytes, Entry]


def record(top: str) -> Truth:
    """Read the whole filesystem mounted at *top* (its top-level subvolume)."""
    root = os.fsencode(top)
    truth = Truth({}, {})
    pending = [(b"/", 0, 0)]
    while pending:
        path, subvolume, parent_device = pending.pop()
        host = root + path
        found = kernel.stat(host)
        if found.ino == kernel.SUBVOLUME_INO and found.dev != parent_device:
            subvolume = kernel.subvolume_id(host)
            truth.subvolumes[subvolume] = Subvolume(path, kernel.subvolume_info(host))
        entry = _entry(path, host, subvolume, found)
        truth.entries[path] = entry
        pending += [(os.path.join(path, name), subvolume, found.dev) for name in entry.names or ()]
    return truth


def lasting(truth: Truth) -> dict[bytes, Entry]:
    """Return the entries as every mount shows them: without what it makes up itself.

    That is the number of the device, and all but the name of a placeholder.
    """
    found = {}
    for path, entry in truth.entries.items():
        shown = truth.entries[b"/"].stat if entry.is_placeholder else entry.stat
        found[path] = entry._replace(stat=shown._replace(dev_major=0, dev_minor=0))
    return found


def _entry(path: bytes, host: bytes, subvolume: int, found: kernel.Stat) -> Entry:
    xattrs = {
        os.fsencode(name): os.getxattr(host, name, follow_symlinks=False)
        for name in os.listxattr(host, follow_symlinks=False)
    }
    entry = Entry(path, subvolume, found, xattrs)
    if stat.S_ISDIR(found.mode):
        return entry._replace(names=tuple(os.listdir(host)))
    if stat.S_ISLNK(found.mode):
        return entry._replace(target=os.readlink(host))
    if not stat.S_ISREG(found.mode):
        return entry
    entry = entry._replace(extents=kernel.fiemap(host))
    if found.size > _LARGEST_CONTENT:
        return entry
    with kernel.opened(host) as fd:
        content = os.pread(fd, found.size, 0)
    digest = hashlib.sha256(content).hexdigest()
    return entry._replace(content=_pool.setdefault(digest, content), sha256=digest)
