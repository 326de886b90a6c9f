"""What a source of files (a directory of the host, a tar archive) tells the builder, one object after the other."""

from __future__ import annotations

from btrimg.named import NamedTuple
from btrimg.units import round_down, round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    #: What a regular file holds: (offset, bytes) in rising order. What lies between is a hole, and so is the rest.
    #: Offsets are multiples of the sector size; only the piece that ends the file has another length.
    Pieces = Iterable[tuple[int, bytes]]
    Xattrs = tuple[tuple[bytes, bytes], ...]  # (name, value), sorted

PIECE = 1 << 20  #: bytes that a piece of content has at most

_NS = 10**9

#: Extended attributes that btrfs can hold; others (system.nfs4_acl, ceph.dir) are of the filesystem they come from.
XATTRS_KEPT = (b"user.", b"security.", b"trusted.", b"btrfs.", b"system.posix_acl_")


#: The times of an inode as its item has them, each as seconds since 1970 and ns: of access, of change of the inode, of
#: change of the content, of creation.
Clock = tuple[int, int, int, int, int, int, int, int]


def clock(access: int, change: int, modification: int, creation: int) -> Clock:
    """Return the times that these ns since 1970 are."""
    return (*divmod(access, _NS), *divmod(change, _NS), *divmod(modification, _NS), *divmod(creation, _NS))


def until(times: Clock, latest: int) -> Clock:
    """Return *times*, those after *latest* (ns since 1970) made that."""
    return clock(*(min(times[at] * _NS + times[at + 1], latest) for at in (0, 2, 4, 6)))


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
    dense: bool = True  #: whether that has no holes
    target: bytes = b""  #: what a symlink says
    device: tuple[int, int] = (0, 0)  #: major and minor number of a device
    same_as: bytes | None = None  #: a further name, a hard link, of the file that came at this path


def aligned(pieces: Iterable[tuple[int, bytes]], sectorsize: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield content as `Entry.pieces` has it, of *pieces* in rising order that begin and end anywhere.

    *size* is that of the file, which no piece reaches beyond. Where a sector has data, zeros fill up the rest of it.
    """
    start, held = 0, bytearray()
    for offset, data in pieces:
        if held and offset >= round_up(start + len(held), sectorsize):
            yield start, _filled(held, sectorsize, size - start)
            held = bytearray()
        if not held:
            start = round_down(offset, sectorsize)
        held += bytes(offset - start - len(held))
        held += data
        whole = round_down(len(held), sectorsize)
        if whole >= PIECE:
            yield from ((start + at, bytes(held[at : min(at + PIECE, whole)])) for at in range(0, whole, PIECE))
            start, held = start + whole, held[whole:]
    if held:
        yield start, _filled(held, sectorsize, size - start)


def _filled(held: bytearray, sectorsize: int, most: int) -> bytes:
    return bytes(held.ljust(min(round_up(len(held), sectorsize), most), b"\0"))
