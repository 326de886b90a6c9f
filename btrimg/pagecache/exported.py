"""Streams of page numbers in the formats that libCacheSim reads: oracleGeneral, and CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.pagecache.accesses import NS
from btrimg.pagecache.offline import previous
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.pagecache.pages import Ints
    from btrimg.pagecache.simulate import Stream

_PIECE = 1 << 16  # page accesses
_NEVER = -1
#: libCacheSim's oracleGeneralBin.h: little-endian, not aligned; the time is in seconds
ORACLE_GENERAL = np.dtype([("time", "<u4"), ("object", "<u8"), ("size", "<u4"), ("next", "<i8")])


def oracle_general(stream: Stream, time: Ints) -> Iterator[bytes]:
    """Yield the records of all page accesses, *time* in nanoseconds of each; objects are pages of 4096 bytes.

    Each says when its page is accessed next, which Belady's policy asks for.
    """
    last = previous(stream.pages, stream.order)
    following = np.full(len(last), _NEVER, np.int64)
    again = np.flatnonzero(last >= 0)
    following[last[again]] = again
    for start in range(0, len(last), _PIECE):
        piece = slice(start, start + _PIECE)
        records = np.empty(len(last[piece]), ORACLE_GENERAL)
        records["time"] = np.clip(time[piece] // NS, 0, (1 << 32) - 1)
        records["object"], records["size"], records["next"] = stream.pages[piece], PAGE, following[piece]
        yield records.tobytes()


def csv(stream: Stream, time: Ints) -> Iterator[bytes]:
    """Yield lines of ``time,object,size``, the first of which names them; times in seconds."""
    yield b"time,object,size\n"
    for start in range(0, len(stream.pages), _PIECE):
        piece = slice(start, start + _PIECE)
        rows = zip(np.maximum(time[piece] // NS, 0).tolist(), stream.pages[piece].tolist(), strict=True)
        yield "".join(f"{second},{page},{PAGE}\n" for second, page in rows).encode()
