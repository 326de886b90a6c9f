"""Headers of tar archives: ustar, GNU and pax, from bytes to what they say.

Layouts: POSIX.1-2017 pax(1) "ustar Interchange Format"; the GNU tar manual, "Basic Tar Format" and "Sparse Formats".
The standard library's tarfile keeps every header in memory and lets an archive choose how much it reads at once; here
archives are hostile, long, and come through pipes.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Pax = Mapping[bytes, bytes]
    Segments = list[tuple[int, int]]  # (offset, length) of what a sparse file holds

BLOCK = 512
_HEADER = Struct("100s8s8s8s12x12s8xc100s8s64x8s8s155s")
_SIZE, _CHECKSUM, _KIND = slice(124, 136), slice(148, 156), slice(156, 157)
_BLANK_SUM = 8 * ord(" ")  # the checksum counts itself as blanks
_USTAR = b"ustar\x0000"

# Within the header of a GNU sparse file, and within the blocks that continue it.
_OLD_MAP, _OLD_MORE, _OLD_SIZE = slice(386, 482), 482, slice(483, 495)
_NEXT_MAP, _NEXT_MORE = slice(0, 504), 504
_SEGMENT = Struct("12s12s")

_DECIMAL = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_COUNT = re.compile(rb"[0-9]{1,19}")


class Header(NamedTuple):
    """What the header of a member says beside type and size; what a pax header before it says counts more."""

    name: bytes
    mode: int
    uid: int
    gid: int
    mtime: int  #: s since 1970
    link: bytes
    major: int
    minor: int


def is_header(block: bytes) -> bool:
    """Return whether the checksum of a block is that of a header; old archives counted bytes as signed."""
    try:
        said = _number(block[_CHECKSUM])
    except ValueError:
        return False
    rest = _BLANK_SUM - sum(block[_CHECKSUM])
    unsigned = sum(block) + rest
    if said == unsigned:
        return True
    return said == unsigned - 256 * sum(byte > 127 for byte in block)


def kind_of(block: bytes) -> bytes:
    """Return the type of a header, one byte."""
    return block[_KIND]


def size_of(block: bytes) -> int:
    """Return how many bytes follow a header.

    Raises ValueError.
    """
    return _number(block[_SIZE])


def parse(block: bytes) -> Header:
    """Return what the header of a member says.

    Raises ValueError, with what is wrong with it.
    """
    name, mode, uid, gid, mtime, kind, link, magic, major, minor, prefix = _HEADER.unpack_from(block)
    name = _text(name)
    if magic == _USTAR and prefix[0]:
        name = _text(prefix) + b"/" + name
    is_device = kind in b"34"  # elsewhere these fields may hold anything
    return Header(
        name,
        _number(mode) & 0o7777,
        _number(uid),
        _number(gid),
        _number(mtime),
        _text(link),
        _number(major) if is_device else 0,
        _number(minor) if is_device else 0,
    )


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Return a number: octal digits, or where the first bit is set a big-endian number with a sign (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << 8 * len(field) - 1) - 1)
        return value - (1 << 8 * len(field) - 1) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise ValueError(f"{field!r} is no octal number") from None


# Sparse files of the old GNU format


def old_sparse(block: bytes) -> tuple[Segments, int, bool]:
    """Return the segments that a header of type S has room for, the size of the file, and whether more follow."""
    return _segments(block[_OLD_MAP]), _number(block[_OLD_SIZE]), block[_OLD_MORE] != 0


def more_sparse(block: bytes) -> tuple[Segments, bool]:
    """Return the segments that a block after such a header holds, and whether more follow."""
    return _segments(block[_NEXT_MAP]), block[_NEXT_MORE] != 0


def _segments(table: bytes) -> Segments:
    return [(_number(offset), _number(length)) for offset, length in _SEGMENT.iter_unpack(table) if length[0]]


# Pax


def pax_records(body: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Yield (keyword, value) of the records of a pax header.

    Raises ValueError when they are not as they should be.
    """
    at = 0
    while at < len(body) and body[at]:  # some fill up with NULs
        blank = body.find(b" ", at, at + 20)
        if blank < 0 or not _COUNT.fullmatch(body, at, blank):
            raise ValueError(f"a record of its pax header has no length: {body[at : at + 20]!r}")
        end = at + int(body[at:blank])
        keyword, equals, value = body[blank + 1 : end].partition(b"=")
        if end > len(body) or not equals or not keyword or value[-1:] != b"\n":
            raise ValueError(f"a record of its pax header is broken: {body[at : at + 40]!r}")
        yield keyword, value[:-1]
        at = end


def pax_time(text: bytes) -> int:
    """Return the ns since 1970 that a decimal number of seconds means; what is finer is cut off."""
    match = _DECIMAL.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is no time")
    sign, seconds, fraction = match.groups(b"")
    value = int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))
    return -value if sign else value


def pax_number(text: bytes) -> int:
    """Return a whole number; of uid, gid and mtime some archives have negative ones."""
    if not _COUNT.fullmatch(text.removeprefix(b"-")):
        raise ValueError(f"{text[:40]!r} is no number")
    return int(text)


def pax_sparse(records: list[tuple[bytes, bytes]]) -> Segments | None:
    """Return the segments that a pax header lists, as GNU tar did before version 1.0 of that format, if any."""
    listed = dict(records).get(b"GNU.sparse.map")
    if listed is None:
        offsets = [pax_number(value) for keyword, value in records if keyword == b"GNU.sparse.offset"]
        lengths = [pax_number(value) for keyword, value in records if keyword == b"GNU.sparse.numbytes"]
        if not offsets:
            return None
    else:
        numbers = [pax_number(number) for number in listed.split(b",")] if listed else []
        offsets, lengths = numbers[::2], numbers[1::2]
    if len(offsets) != len(lengths):
        raise ValueError("its sparse map has an offset without a length")
    return list(zip(offsets, lengths, strict=True))
