"""Hold everything that btrimg reads of an image against what the kernel said of it.

Two judges: the kernel's own view of its mount (``support.truth``), and the bytes at every resolved device offset. The
comparing is that of ``btrimg verify``.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NoReturn

from btrimg.oracle.files import compare_extents, compare_places, inode_fields, stat_fields
from btrimg.oracle.tally import Tally

if TYPE_CHECKING:
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.oracle.tally import Difference

    from .truth import Entry, Truth

_TIMES = ("nlink", "size", "atime", "mtime", "ctime", "btime")  # that the kernel makes up for a placeholder


def _fail(difference: Difference) -> NoReturn:
    raise AssertionError(difference)


def compare(image: Image, truth: Truth) -> None:
    """Compare every entry: fields, times, xattrs, names, targets, contents, extents, and the bytes at every copy."""
    for path, entry in truth.entries.items():
        inode = image.open(path, follow=False)
        assert inode.subvolume.id == entry.subvolume or entry.is_placeholder
        _compare_inode(inode, entry)
        if entry.names is not None:
            assert sorted(found.name for found, _ in inode.entries()) == sorted(entry.names)
        if entry.target is not None:
            assert inode.target() == entry.target
        if entry.content is not None:
            assert inode.read(0, len(entry.content) + 1) == entry.content
        if stat.S_ISREG(entry.stat.mode):
            _compare_extents(inode, entry)


def _compare_inode(inode: Inode, entry: Entry) -> None:
    ours, theirs = inode_fields(inode), stat_fields(entry.stat)
    if entry.is_placeholder:
        for name in _TIMES:
            del ours[name], theirs[name]
    else:
        assert inode.xattrs() == entry.xattrs
    assert ours == theirs


def _compare_extents(inode: Inode, entry: Entry) -> None:
    tally = Tally("extents", "", "", _fail, lambda _units, _size: None)
    where = repr(entry.path)
    compare_extents(tally, inode, where, entry.extents)
    content = entry.content
    if content is not None:
        compare_places(tally, inode, where, 0, len(content), lambda offset, length: content[offset : offset + length])
