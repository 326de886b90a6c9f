"""From system calls to accesses: which file a descriptor stands for, and where in it a process reads next.

A descriptor belongs to a table, which threads share and forked processes copy; the file position belongs to what was
opened, which copies and duplicates share. What is read through io_uring, or a descriptor that another process sent,
cannot be seen in system calls. A mapping counts as read from end to end, because faults are no calls.
"""

from __future__ import annotations

import os.path
import re
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple
from btrimg.pagecache.accesses import FAULT, READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.pagecache.accesses import Collector

MOST_PROCESSES = 4096  #: at once; whoever was seen first is forgotten beyond that
_MOST_DESCRIPTORS = 1 << 16  # of one process; larger numbers are not followed

_QUOTED = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
# A descriptor, and the path of it that strace -y adds.
_DESCRIPTOR = re.compile(rb"(-?\d{1,10}|AT_FDCWD)(?:<((?:[^<>]++|<[^<>]*+>)*+)>(?:\(deleted\))?)?")
_ANNOTATED = re.compile(rb"<((?:[^<>]++|<[^<>]*+>)*+)>")
_FORKS = (b"clone(", b"clone3(", b"fork(", b"vfork(")


class Call(NamedTuple):
    """A system call that returned."""

    process: int
    time: int  #: ns
    name: bytes
    arguments: bytes  #: text
    result: int  #: -1 for errors and where it is not known
    rest: bytes  #: what stands behind the result: its path, its error


class _Opened:
    """What an open() made, however many descriptors stand for it."""

    __slots__ = ("direct", "name", "position")

    def __init__(self, name: bytes | None, *, direct: bool = False) -> None:
        self.name = name  #: absolute; None where it is not known
        self.direct = direct  #: past the page cache
        self.position = 0


class _Table:
    """Descriptors and working directory, as processes that share them see them."""

    def __init__(self) -> None:
        self.opened: dict[int, _Opened] = {}
        self.closing: set[int] = set()  #: descriptors that an exec closes
        self.directory: bytes | None = None

    def copy(self) -> _Table:
        """Return what a forked process gets."""
        other = _Table()
        other.opened, other.closing, other.directory = dict(self.opened), set(self.closing), self.directory
        return other


class _Process:
    __slots__ = ("adopted", "forks", "reader", "table")

    def __init__(self, number: int) -> None:
        self.reader = number  #: the process that reads, for threads that of the first one
        self.table = _Table()
        self.forks = b""  #: a call that began and will return a new process
        self.adopted = False  #: whether it is known whose child it is


class Processes:
    """All processes of a trace and their descriptors; takes calls, gives accesses."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._processes: dict[int, _Process] = {}
        self._seen: set[int] = set()  # those that strace follows; it may lag behind the call that made one
        self._forking: list[int] = []  # processes in a call that makes others, the latest last

    def __contains__(self, process: int) -> bool:
        return process in self._processes

    def only(self) -> int | None:
        """Return the one process that has lines, None if there are more or none."""
        return next(iter(self._seen)) if len(self._seen) == 1 else None

    def forks(self, process: int) -> bool:
        """Return whether *process* is in a call that makes another."""
        return process in self._forking

    def rename(self, process: int, number: int) -> None:
        """Give *process* its *number*, which was not known so far; as a reader it stays who it was."""
        self._processes[number] = self._processes.pop(process)
        self._seen.discard(process)
        self._seen.add(number)
        self._forking = [number if each == process else each for each in self._forking]

    def known(self, number: int) -> _Process:
        """Return a process. A new one is the child of whoever is making one."""
        process = self._processes.get(number)
        self._seen.add(number)
        if process is None:
            process = self._processes[number] = _Process(number)
            if self._forking:
                parent = self._processes[self._forking[-1]]
                _adopt(process, parent, parent.forks)
            else:
                process.table.directory = self._collector.directory
            if len(self._processes) > MOST_PROCESSES:
                self.gone(next(iter(self._processes)))
        return process

    def may_fork(self, number: int, text: bytes) -> None:
        """Note that a call began, which perhaps makes a process whose first lines come before the call returns."""
        process = self.known(number)
        if text.startswith(_FORKS):
            process.forks = text
            self._forking = [each for each in self._forking if each != number] + [number]

    def gone(self, number: int) -> None:
        """Note that a process is no more."""
        self._processes.pop(number, None)
        self._seen.discard(number)
        if number in self._forking:
            self._forking.remove(number)

    def take(self, call: Call) -> None:
        """Take in a call."""
        handler = _HANDLERS.get(call.name)
        process = self.known(call.process)
        if call.name + b"(" in _FORKS:
            self._forked(process, call)
        elif handler and call.result >= 0:
            try:
                handler(self, process, call)
            except (ValueError, IndexError):
                self._collector.skip(f"arguments that were not understood, of {call.name.decode()}")

    def _forked(self, process: _Process, call: Call) -> None:
        """Take in that a call returned a new process, which may have been seen before."""
        if call.process in self._forking:
            self._forking.remove(call.process)
        if call.result > 0:
            child = self._processes.get(call.result) or self._processes.setdefault(call.result, _Process(call.result))
            if not child.adopted:
                _adopt(child, process, call.arguments)

    def _of(self, process: _Process, text: bytes) -> tuple[int, _Opened | None, bytes]:
        """Return the descriptor that *text* begins with, what it stands for, and the rest of the text."""
        found = _DESCRIPTOR.match(text)
        if found is None:
            raise ValueError
        number = -1 if found[1] == b"AT_FDCWD" else int(found[1])
        opened, path = process.table.opened.get(number), found[2]
        if path is not None and number >= 0:
            name = _unescaped(path) if path.startswith(b"/") else None
            if opened is None:  # it was opened before the trace begins, or by a call that is not in it
                opened = self._open(process, number, name)
            opened.name = name
        return number, opened, text[found.end() :]

    def _open(self, process: _Process, number: int, name: bytes | None, *, direct: bool = False) -> _Opened:
        opened = _Opened(name, direct=direct)
        self._set(process, number, opened, closing=False)
        return opened

    def _set(self, process: _Process, number: int, opened: _Opened, *, closing: bool) -> None:
        """Let a descriptor stand for *opened*; *closing* if an exec closes it."""
        if number >= _MOST_DESCRIPTORS:
            self._collector.skip("a descriptor beyond 65,535")
            return
        table = process.table
        table.opened[number] = opened
        (table.closing.add if closing else table.closing.discard)(number)

    def _access(
        self, process: _Process, call: Call, kind: int, opened: _Opened | None, at: int | None, length: int
    ) -> None:
        """Note that *length* bytes were accessed, at the file position if *at* is None, which then moves on."""
        if opened is None:
            if kind != WRITE:
                self._collector.skip("a descriptor whose opening is not in the trace")
            return
        offset = opened.position if at is None else at
        if at is None:
            opened.position += length
        if opened.name is None or not length:
            return
        if opened.direct and kind != FAULT:
            self._collector.skip("direct I/O, which goes past the page cache")
            return
        self._collector.access(kind, opened.name, offset, length, time=call.time, process=process.reader)

    def _path(self, process: _Process, directory: bytes | None, text: bytes) -> tuple[bytes | None, bytes]:
        """Return the absolute path that *text* begins with, None if that is not known, and the rest of the text."""
        found = _QUOTED.match(text)
        if found is None:
            raise ValueError
        path = _unescaped(found[1])
        if not path.startswith(b"/"):
            if directory is None:
                return None, text[found.end() :]
            path = directory + b"/" + path
        return os.path.normpath(path), text[found.end() :]

    def _directory(self, process: _Process, text: bytes) -> tuple[bytes | None, bytes]:
        """Return the directory that the descriptor in front of *text* stands for, and what follows the comma."""
        number, opened, rest = self._of(process, text)
        found = _DESCRIPTOR.match(text)
        if number == -1:
            if found and found[2]:
                process.table.directory = _unescaped(found[2])
            return process.table.directory, rest.removeprefix(b", ")
        return opened.name if opened else None, rest.removeprefix(b", ")

    def open(self, process: _Process, call: Call) -> None:
        """``open(path, flags)``, ``creat(path)``."""
        self._opened(process, call, process.table.directory, call.arguments)

    def openat(self, process: _Process, call: Call) -> None:
        """``openat(directory, path, flags)``, ``openat2(directory, path, {flags=…})``."""
        directory, rest = self._directory(process, call.arguments)
        self._opened(process, call, directory, rest)

    def _opened(self, process: _Process, call: Call, directory: bytes | None, text: bytes) -> None:
        name, flags = self._path(process, directory, text)
        annotated = _ANNOTATED.match(call.rest)
        if annotated:
            name = _unescaped(annotated[1]) if annotated[1].startswith(b"/") else None
        elif name is None:
            self._collector.skip("a path from a working directory that is not known (strace -y says it)")
        opened = _Opened(name, direct=b"O_DIRECT|" in flags + b"|")
        self._set(process, call.result, opened, closing=b"O_CLOEXEC" in flags)

    def read(self, process: _Process, call: Call) -> None:
        """``read``, ``readv``: *result* bytes at the file position."""
        self._access(process, call, READ, self._of(process, call.arguments)[1], None, call.result)

    def write(self, process: _Process, call: Call) -> None:
        """``write``, ``writev``."""
        self._access(process, call, WRITE, self._of(process, call.arguments)[1], None, call.result)

    def pread(self, process: _Process, call: Call) -> None:
        """``pread64``, ``preadv``: the offset is the last argument."""
        self._at(process, call, READ, call.arguments.rsplit(b", ", 1)[1])

    def pwrite(self, process: _Process, call: Call) -> None:
        """``pwrite64``, ``pwritev``."""
        self._at(process, call, WRITE, call.arguments.rsplit(b", ", 1)[1])

    def preadv2(self, process: _Process, call: Call) -> None:
        """``preadv2``: flags come last; offset -1 means the file position."""
        self._at(process, call, READ, call.arguments.rsplit(b", ", 2)[1])

    def pwritev2(self, process: _Process, call: Call) -> None:
        """``pwritev2``."""
        self._at(process, call, WRITE, call.arguments.rsplit(b", ", 2)[1])

    def _at(self, process: _Process, call: Call, kind: int, offset: bytes) -> None:
        at = int(offset, 0)
        self._access(process, call, kind, self._of(process, call.arguments)[1], None if at == -1 else at, call.result)

    def sendfile(self, process: _Process, call: Call) -> None:
        """``sendfile64(out, in, [offset] => [new], count)``; NULL for the file position."""
        _, out, rest = self._of(process, call.arguments)
        _, source, rest = self._of(process, rest.removeprefix(b", "))
        first = rest.removeprefix(b", ")
        at = int(first[1:].split(b"]")[0]) if first.startswith(b"[") else None
        self._access(process, call, READ, source, at, call.result)
        if out:
            out.position += call.result

    def mmap(self, process: _Process, call: Call) -> None:
        """``mmap(address, length, protection, flags, descriptor, offset)``."""
        _, length, protection, flags, rest = call.arguments.split(b", ", 4)
        if b"MAP_ANONYMOUS" in flags or not (b"PROT_READ" in protection or b"PROT_EXEC" in protection):
            return
        _, opened, rest = self._of(process, rest)
        self._access(process, call, FAULT, opened, int(rest.removeprefix(b", "), 0), int(length, 0))

    def lseek(self, process: _Process, call: Call) -> None:
        """``lseek`` returns the new position."""
        opened = self._of(process, call.arguments)[1]
        if opened:
            opened.position = call.result

    def dup(self, process: _Process, call: Call) -> None:
        """``dup``, ``dup2``, ``dup3`` return the new descriptor."""
        number, opened, rest = self._of(process, call.arguments)
        if opened and number != call.result:
            self._set(process, call.result, opened, closing=b"O_CLOEXEC" in rest)

    def fcntl(self, process: _Process, call: Call) -> None:
        """``fcntl(descriptor, F_DUPFD | F_DUPFD_CLOEXEC | F_SETFD, …)``."""
        number, opened, rest = self._of(process, call.arguments)
        if b"F_DUPFD" in rest and opened:
            self._set(process, call.result, opened, closing=b"F_DUPFD_CLOEXEC" in rest)
        elif b"F_SETFD" in rest and opened:
            self._set(process, number, opened, closing=b"FD_CLOEXEC" in rest)

    def close(self, process: _Process, call: Call) -> None:
        """``close``: the number may stand for another file from now on."""
        number, _, _ = self._of(process, call.arguments)
        process.table.opened.pop(number, None)

    def close_range(self, process: _Process, call: Call) -> None:
        """``close_range(first, last, flags)``."""
        first, last, flags = call.arguments.split(b", ", 2)
        for number in [n for n in process.table.opened if int(first, 0) <= n <= int(last, 0)]:
            if b"CLOEXEC" in flags:
                process.table.closing.add(number)
            else:
                del process.table.opened[number]

    def execve(self, process: _Process, call: Call) -> None:
        """``execve``: the table is the process's own from now on."""
        table = process.table = process.table.copy()
        for number in table.closing:
            table.opened.pop(number, None)
        table.closing.clear()

    def chdir(self, process: _Process, call: Call) -> None:
        """``chdir(path)``."""
        process.table.directory, _ = self._path(process, process.table.directory, call.arguments)

    def fchdir(self, process: _Process, call: Call) -> None:
        """``fchdir(descriptor)``."""
        opened = self._of(process, call.arguments)[1]
        process.table.directory = opened.name if opened else None


def _adopt(child: _Process, parent: _Process, text: bytes) -> None:
    """Give *child* what the call with the arguments *text* hands on; what it opened since then stays its own."""
    own = child.table
    child.table = parent.table if b"CLONE_FILES" in text else parent.table.copy()
    child.table.opened.update(own.opened)
    child.adopted = True
    if b"CLONE_THREAD" in text:
        child.reader = parent.reader


def _unescaped(text: bytes) -> bytes:
    """Return the bytes that a string in strace's text stands for."""
    return _ESCAPE.sub(_byte, text) if b"\\" in text else text


def _byte(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code[:1] == b"x" and len(code) == 3:
        return bytes((int(code[1:], 16),))
    if code.isdigit():
        return bytes((int(code, 8) & 0xFF,)) if code[:1] < b"8" else code
    return _ESCAPES.get(code, code)


_HANDLERS: dict[bytes, Callable[[Processes, _Process, Call], None]] = {
    **dict.fromkeys((b"open", b"creat"), Processes.open),
    **dict.fromkeys((b"openat", b"openat2"), Processes.openat),
    **dict.fromkeys((b"read", b"readv"), Processes.read),
    **dict.fromkeys((b"write", b"writev"), Processes.write),
    **dict.fromkeys((b"pread", b"pread64", b"preadv"), Processes.pread),
    **dict.fromkeys((b"pwrite", b"pwrite64", b"pwritev"), Processes.pwrite),
    b"preadv2": Processes.preadv2,
    b"pwritev2": Processes.pwritev2,
    **dict.fromkeys((b"sendfile", b"sendfile64"), Processes.sendfile),
    **dict.fromkeys((b"mmap", b"mmap2"), Processes.mmap),
    **dict.fromkeys((b"lseek", b"_llseek"), Processes.lseek),
    **dict.fromkeys((b"dup", b"dup2", b"dup3"), Processes.dup),
    **dict.fromkeys((b"fcntl", b"fcntl64"), Processes.fcntl),
    b"close": Processes.close,
    b"close_range": Processes.close_range,
    **dict.fromkeys((b"execve", b"execveat"), Processes.execve),
    b"chdir": Processes.chdir,
    b"fchdir": Processes.fchdir,
}
