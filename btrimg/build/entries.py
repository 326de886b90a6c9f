"""What a source of files (a directory of the host, a tar archive) tells the builder, one object after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    #: What a regular file holds: (offset, bytes) in rising order. What lies between is a hole, and so is the rest.
    #: Offsets are multiples of the sector size; only the piece that ends the file has another length.
    Pieces = Iterable[tuple[int, bytes]]
    Xattrs = tuple[tuple[bytes, bytes], ...]  # (name, value), sorted

PIECE = 1 << 20  #: bytes that a piece of content has at most


class Clock(NamedTuple):
    """The four times of an inode, in ns since 1970."""

    access: int
    change: int
    modification: int
    creation: int

    def until(self, latest: int) -> Clock:
        """Return the times, those after *latest* made that."""
        return Clock(*(min(time, latest) for time in self))


class Entry(NamedTuple):
    """An object with a name, as it shall be in the image.

    A directory comes before what is in it, the first name of a file before its other ones. The content must be used
    before the next entry is asked for.
    """

    path: bytes  #: from the top, without a slash at either end; empty for the top itself
    mode: int  #: type and permissions, as ``st_mode``
    owner: tuple[int, int]  #: uid, gid
    times: Clock
    xattrs: Xattrs = ()
    size: int = 0  #: bytes of a regular file
    pieces: Pieces = ()  #: content of a regular file
    target: bytes = b""  #: what a symlink says
    device: tuple[int, int] = (0, 0)  #: major and minor number of a device
    same_as: bytes | None = None  #: a further name, a hard link, of the file that came at this path
