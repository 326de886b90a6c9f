"""Text of the page cache's tracepoints, ``mm_filemap_*``: of the file trace_pipe, trace-cmd report or perf script.

A line names a device and an inode in hexadecimal, not a path (include/trace/events/filemap.h):

    cat-1234 [001] ..... 56.789012: mm_filemap_add_to_page_cache: dev 0:45 ino 101 pfn=0x12345 ofs=0 order=2
    cat-1234 [001] ..... 56.789013: mm_filemap_get_pages: dev=0:45 ino=101 ofs=0-16383

``add_to_page_cache`` is a fill: the first access, or readahead. Linux 6.11 and later tell reads (``get_pages``) and
faults (``fault``, ``map_pages``: pages around a fault that were there) apart. A device is that of the whole
filesystem, for btrfs too: subvolumes are not told apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from btrimg.pagecache.accesses import FAULT, FILL, NS, READ, InodeName
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from btrimg.pagecache.accesses import Collector

_WHERE = re.compile(rb"(\w+): +dev[ =](\d+):(\d+) ino[ =]([0-9a-f]+) (?:.*?\b)?ofs=(\d+)(?:-(\d+))?(?: order=(\d+))?")
_KINDS = {b"add_to_page_cache": FILL, b"get_pages": READ, b"fault": FAULT, b"map_pages": FAULT}
_LARGEST_ORDER = 20  # no folio is as large (MAX_PAGECACHE_ORDER)


def recognises(line: bytes) -> bool:
    """Return whether *line* is one of these events, or the head of ftrace's text."""
    return b" mm_filemap_" in line or b":mm_filemap_" in line or line.startswith(b"# tracer:")


class Parser:
    """See :class:`~btrimg.pagecache.accesses.Parser`."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def line(self, text: bytes) -> None:
        """Take in one line."""
        head, found, event = text.partition(b"mm_filemap_")
        if not found:
            if not text.lstrip().startswith(b"#"):
                self._collector.skip("not an event of the page cache")
            return
        where = _WHERE.match(event)
        if where is None:
            self._collector.skip("an event that does not say where")
            return
        name, major, minor, inode, first, last, order = where.groups()
        kind = _KINDS.get(name)
        if kind is None:
            return  # a page left the page cache
        try:
            offset = int(first)
            length = int(last) + 1 - offset if last else PAGE << min(int(order or b"0"), _LARGEST_ORDER)
            space = (int(major) << 20 | int(minor)) & 0xFFFFFFFF
            file = InodeName(space, int(inode, 16), is_device=True)
            process, time = _who_and_when(head)
        except ValueError:
            self._collector.skip("an event whose numbers are none")
            return
        self._collector.access(kind, file, offset, length, time=time, process=process)


def _who_and_when(head: bytes) -> tuple[int, int]:
    """Return the process and the time in ns that stand before an event; raise ValueError if they are no numbers.

    Before the CPU in brackets stands COMMAND-PID, perhaps with the thread group in parentheses; in perf's text COMMAND
    PID or COMMAND PID/TID.
    """
    words = head.replace(b"filemap:", b"").split()
    if not words:
        return 0, 0
    seconds, _, fraction = words[-1].removesuffix(b":").partition(b".")
    time = int(seconds) * NS + int(fraction[:9].ljust(9, b"0"))
    cpu = next((at for at, word in enumerate(words) if word.startswith(b"[") and word.endswith(b"]") and at), 0)
    before = words[:cpu]
    if before and before[-1].endswith(b")"):
        while before and not before.pop().startswith(b"("):
            pass
    return (int(before[-1].rsplit(b"-", 1)[-1].split(b"/")[0]) if before else 0), time
