"""strace's text, as ``strace -f`` writes it: with or without ``-o``, ``-y``, and times of any sort.

From lines to calls: who made one, when, with which arguments and result. Calls that others interrupted stand on two
lines; on a terminal, the news that a process was attached may stand in the middle of one. What calls mean for files
is the business of :mod:`descriptors`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple
from btrimg.pagecache.accesses import NS
from btrimg.pagecache.descriptors import MOST_PROCESSES, Call, Processes

if TYPE_CHECKING:
    from btrimg.pagecache.accesses import Collector

_HEAD = re.compile(
    rb"\s*(?:\[pid\s+(\d{1,10})\]\s+|(\d{1,10})\s+)?"
    rb"(?:(\d\d):(\d\d):(\d\d(?:\.\d{1,9})?)\s+|(\d{1,12}\.\d{1,9})\s+)?(?:\(\+\s*[\d.]+\)\s+)?(.*)",
    re.DOTALL,
)
_CALL = re.compile(rb"(\w+)\((.*)", re.DOTALL)
# Arguments end with the first parenthesis outside of quotes that a result follows. The outer repetition may give back,
# in vain and in linear time: Python before 3.11.5 errs where one that may not holds one that may (gh-106052).
_RESULT = re.compile(
    rb"""((?:[^")]++|"(?:[^"\\]++|\\.)*+"|\)(?!\s+=\s))*)\)\s+=\s(-?\d{1,20}|0x[0-9a-f]{1,16}|\?)(.*)""", re.DOTALL
)
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_ATTACHED = re.compile(rb"(.*?)(?:strace: )?Process (\d{1,10}) attached\Z", re.DOTALL)
_UNFINISHED = b" <unfinished ...>"
_GONE = (b"+++ exited", b"+++ killed", b"+++ superseded")
_LONGEST_CALL = 20_000  # bytes of an unfinished call: a path is at most 4096, each perhaps four characters
_SINCE_BOOT = 100_000_000  # seconds; smaller times are strace -r's, since the line before


def recognises(line: bytes) -> bool:
    """Return whether *line* could be one of strace's."""
    text = _HEAD.match(line)[7]  # type: ignore[index]
    call = _CALL.match(text)
    return bool(call and (_RESULT.match(call[2]) or text.endswith(_UNFINISHED))) or text.startswith(
        (*_GONE, b"--- SIG")
    )


class _Line(NamedTuple):
    """What stands in front of the text of a line, and the text."""

    process: int | None
    time: int  #: ns
    text: bytes


class Parser:
    """See :class:`~btrimg.pagecache.accesses.Parser`."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._processes = Processes(collector)
        self._unfinished: dict[int, tuple[int, bytes]] = {}  # of a process: the time and text of its call so far
        self._broken: _Line | None = None  # that the news of a process interrupted
        self._announced: set[int] = set()  # processes of which there was such news
        self._now = 0

    def line(self, text: bytes) -> None:
        """Take in one line."""
        attached = _ATTACHED.match(text) if text.endswith(b" attached") else None
        if attached:
            self._attach(int(attached[2]), attached[1])
            return
        if self._broken is not None:
            head, self._broken = self._broken._replace(text=self._broken.text + text), None
        else:
            head = self._head(text)
        process = self._who(head)
        if head.text.startswith(b"<... "):
            self._resume(process, head)
        elif head.text.endswith(_UNFINISHED):
            self._processes.known(process)
            self._unfinished[process] = head.time, head.text.removesuffix(_UNFINISHED)[:_LONGEST_CALL]
            self._processes.may_fork(process, head.text)
            if len(self._unfinished) > MOST_PROCESSES:
                self._unfinished.pop(next(iter(self._unfinished)))
        elif head.text.startswith(_GONE):
            self._unfinished.pop(process, None)
            self._processes.gone(process)
        elif not head.text.startswith(b"---"):
            self._call(process, head.time, head.text)

    def _head(self, text: bytes) -> _Line:
        """Return who and when."""
        marked, plain, hours, minutes, seconds, stamp, rest = _HEAD.match(text).groups()  # type: ignore[union-attr]
        if stamp:
            time = _nanoseconds(stamp)
            self._now = self._now + time if time < _SINCE_BOOT * NS else time
        elif hours:
            self._now = (int(hours) * 3600 + int(minutes) * 60) * NS + _nanoseconds(seconds)
        number = marked or plain
        return _Line(int(number) if number else None, self._now, rest)

    def _who(self, line: _Line) -> int:
        """Return whose line it is. strace names no process while there is one only; the first one is 0 until then."""
        everyone, process = self._processes, line.process
        if process is None:
            return everyone.only() or 0
        unknown = process not in everyone and process not in self._announced
        if 0 in everyone and unknown and (line.text.startswith(b"<... ") or not everyone.forks(0)):
            everyone.rename(0, process)
            if 0 in self._unfinished:
                self._unfinished[process] = self._unfinished.pop(0)
        return process

    def _attach(self, child: int, before: bytes) -> None:
        """Take in that strace follows one process more, and the line that this stands in, if it does."""
        if len(self._announced) == MOST_PROCESSES:
            self._announced.clear()
        self._announced.add(child)
        if before:
            head = self._head(before)
            self._broken = head._replace(process=self._who(head))
            self._processes.may_fork(self._who(head), head.text)
        self._processes.known(child)

    def _resume(self, process: int, head: _Line) -> None:
        """Take in the second half of a call."""
        rest = _RESUMED.match(head.text)
        time, first = self._unfinished.pop(process, (0, None))
        if rest is None or first is None:
            self._collector.skip("the end of a call that never began")
            return
        self._call(process, time, first + rest[1])

    def _call(self, process: int, time: int, text: bytes) -> None:
        call = _CALL.match(text)
        found = _RESULT.match(call[2]) if call else None
        if call is None or found is None:
            self._collector.skip("not a line of strace")
            return
        result = found[2]
        number = -1 if result == b"?" else int(result, 0)
        self._processes.take(Call(process, time, call[1], found[1], number, found[3]))


def _nanoseconds(seconds: bytes) -> int:
    whole, _, fraction = seconds.partition(b".")
    return int(whole) * NS + int(fraction.ljust(9, b"0"))
