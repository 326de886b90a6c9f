"""One connection to the kernel's FUSE: requests in, answers out, by as many threads as serve it."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from btrimg.errors import BtrimgError, NotFoundError
from btrimg.mount.system import FUSE_DEVICE
from btrimg.mount.wire import (
    CLONE,
    MAJOR,
    MINOR,
    MINOR_NEEDED,
    InHeader,
    InitFlag,
    InitIn,
    InitOut,
    InterruptIn,
    Opcode,
    OutHeader,
)
from btrimg.named import NamedTuple
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Buffer = bytes | memoryview
    Handler = Callable[[int, bytes, int], "Buffer | None"]  # (nodeid, body, unique) -> the answer, None for none

_REQUEST_SIZE = 8 * 1024  #: of the buffer; longer requests only writers send (FUSE_MIN_READ_BUFFER)
_HEAD = struct.Struct("<4xIQQ")  #: opcode, unique and nodeid of an InHeader: what is looked at for every request
_MAX_WRITE = 4096
_PATIENCE = 40e-6  #: seconds; who opens and closes small files asks again within 15e-6 (measured)
_MAX_READ = MIB  #: the most that the kernel asks for at once, fs.fuse.max_pages_limit
_NOT_TOLD = (1 << 32) - 1  #: FUSE_INVALID_UIDGID
#: What reading or answering says when nobody waits for this one request any more.
_GONE = frozenset((errno.EINTR, errno.ENOENT, errno.EAGAIN))


class RefusedRequest(Exception):  # noqa: N818 (an answer, no defect)
    """Answer a request with an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return os.strerror(self.number)


class Agreement(NamedTuple):
    """What INIT has led to."""

    offered: InitFlag  #: what the kernel can do
    flags: InitFlag  #: what both sides do


class Lead(Protocol):
    """A lock: who has it takes the next request."""

    def acquire(self) -> object:
        """Wait for it."""

    def release(self) -> object:
        """Let another have it."""


class Channel:
    """An open /dev/fuse; ``serve`` may run in several threads at once.

    One thread takes all requests, until one comes that takes long; then another does. If they took turns, each request
    would wake a thread that has slept, and two threads would wait for one interpreter. So it is with the processes that
    share *lead*, a lock between them.

    An *eager* channel, if there are several processors, goes on looking for a request a moment before it sleeps: who
    opens and closes small files asks again at once, and to be woken takes longer than to answer. For who closes a file
    waits for nobody: that is answered after the next request, or when there is none.
    """

    def __init__(self, fd: int, tell: Callable[[str], None], *, eager: bool = False, lead: Lead | None = None) -> None:
        self.fd, self.tell = fd, tell
        self._patience = _PATIENCE if eager and len(os.sched_getaffinity(0)) > 1 else 0.0
        self._asked = b""  # the request that the thread with the lock answers
        self._running: set[int] = set()
        self._interrupted: set[int] = set()
        self._lead = lead or threading.Lock()
        self._leader = 0  # the thread that has the lock

    def negotiate(self, wanted: InitFlag, *, read_ahead: int) -> Agreement:
        """Answer INIT, the first request; of *wanted* only what the kernel can do is used.

        *read_ahead* is in bytes. Raises BtrimgError when the kernel speaks a protocol that is too old.
        """
        header, body = self._next()
        asked = InitIn.unpack(body.ljust(InitIn.SIZE, b"\0"))
        if header.opcode != Opcode.INIT or asked.major != MAJOR or asked.minor < MINOR_NEEDED:
            self._send(header.unique, errno.EPROTO, b"")
            raise BtrimgError(
                f"the kernel speaks FUSE {asked.major}.{asked.minor}; {MAJOR}.{MINOR_NEEDED} (Linux 5.4) is needed"
            )
        offered = InitFlag(asked.flags | (asked.flags2 << 32 if asked.flags & InitFlag.INIT_EXT else 0))
        flags = offered & wanted
        answer = InitOut(
            major=MAJOR,
            minor=MINOR,
            max_readahead=read_ahead,
            flags=flags & 0xFFFF_FFFF,
            max_background=64,
            congestion_threshold=48,
            max_write=_MAX_WRITE,
            time_gran=1,
            max_pages=_MAX_READ // os.sysconf("SC_PAGESIZE"),
            map_alignment=0,
            flags2=flags >> 32,
            max_stack_depth=1 if InitFlag.PASSTHROUGH in flags else 0,
            request_timeout=0,
            unused=(0,) * 11,
        )
        self._send(header.unique, 0, answer.pack())
        return Agreement(offered, flags)

    def divide(self) -> None:
        """Take a descriptor of one's own for the same connection, in place of the one that other processes have, too.

        What was asked by it is an error when it is closed, as when its process is killed; by a common one it would
        wait for the others to end. Raises OSError.
        """
        fd = os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, CLONE, self.fd.to_bytes(4, "little"))
        except OSError:
            os.close(fd)
            raise
        os.close(self.fd)
        self.fd = fd

    def _next(self) -> tuple[InHeader, bytes]:
        request = os.read(self.fd, _REQUEST_SIZE)
        return InHeader.unpack(request), request[InHeader.SIZE :]

    def serve(self, handlers: Mapping[int, Handler]) -> None:
        """Answer requests until the filesystem is unmounted. What no handler is for, is answered by ENOSYS."""
        fd, patience, read, now = self.fd, self._patience, os.read, time.perf_counter
        answer = self._answers(handlers)
        unpack, me = _HEAD.unpack_from, threading.get_ident()
        late: tuple[int, int, int, bytes] | None = None
        release = int(Opcode.RELEASE)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        ready = poller.poll
        while True:
            if self._leader != me:
                self._lead.acquire()
                self._leader = me
            if patience:
                until = now() + patience
                while not ready(0):  # to read in vain takes longer: an exception
                    if now() > until:
                        if late:
                            answer(*late)
                            late = None
                        break
            try:
                request = read(fd, _REQUEST_SIZE)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno != errno.ENODEV:  # which says: unmounted
                    self.tell(f"reading requests: {error.strerror}")
                self.step_back()
                return
            if not request:  # a socket instead of /dev/fuse, whose other side has closed
                self.step_back()
                return
            opcode, unique, nodeid = unpack(request)
            if opcode == release and patience and not late:
                late = opcode, unique, nodeid, request
                continue
            self._asked = request
            answer(opcode, unique, nodeid, request)
            if late:  # others may be answering by now: what they were asked stays
                answer(*late)
                late = None

    def _answers(self, handlers: Mapping[int, Handler]) -> Callable[[int, int, int, bytes], None]:
        """Return what answers a request, of which *opcode*, *unique* and *nodeid* are known."""
        fd, write, writev, start = self.fd, os.write, os.writev, InHeader.SIZE
        find, failure_of = {Opcode.INTERRUPT: self._interrupt, **handlers}.get, self._failure_of
        pack, head_size = OutHeader.STRUCT.pack, OutHeader.SIZE

        def answer(opcode: int, unique: int, nodeid: int, request: bytes) -> None:
            try:
                found = find(opcode, _refuse)(nodeid, request[start:], unique)
            except Exception as error:  # whoever waits must get an answer
                self._send(unique, failure_of(error), b"")
                return
            if found is None:
                return
            length = len(found)
            head = pack(head_size + length, 0, unique)
            try:
                if length < _MAX_WRITE:
                    write(fd, head + found)
                else:
                    writev(fd, (head, found))
            except OSError as error:
                self._failed(unique, 0, error)

        return answer

    def _failure_of(self, error: Exception) -> int:
        """Return the errno that answers a request which *error* has ended."""
        if isinstance(error, RefusedRequest):
            return error.number
        if isinstance(error, NotFoundError):
            return errno.ENOENT
        if isinstance(error, MemoryError):
            return errno.ENOMEM
        expected = isinstance(error, BtrimgError | OSError)
        self.tell(str(error) if expected else f"{type(error).__name__}: {error}")
        return errno.EIO

    def _send(self, unique: int, number: int, answer: Buffer) -> None:
        head = OutHeader.STRUCT.pack(OutHeader.SIZE + len(answer), -number, unique)
        try:
            os.writev(self.fd, (head, answer))
        except OSError as error:
            self._failed(unique, number, error)

    def _failed(self, unique: int, number: int, error: OSError) -> None:
        """Hear that the kernel did not take an answer."""
        if error.errno in _GONE or error.errno == errno.ENODEV:
            return
        self.tell(f"answering: {error.strerror}")
        if not number:  # it still waits for one
            self._send(unique, errno.EIO, b"")

    def _interrupt(self, _nodeid: int, body: bytes, _unique: int) -> None:
        unique = InterruptIn.unpack(body).unique
        if unique in self._running:
            self._interrupted.add(unique)

    @contextmanager
    def lengthy(self, unique: int) -> Iterator[Callable[[], None]]:
        """Let others be answered while a request is that takes long.

        Give what raises RefusedRequest when nobody waits for this one any more.
        """
        self.step_back()
        self._running.add(unique)
        try:
            yield lambda: self._check(unique)
        finally:
            self._running.discard(unique)
            self._interrupted.discard(unique)

    def _check(self, unique: int) -> None:
        if unique in self._interrupted:
            raise RefusedRequest(errno.EINTR)

    def uid(self) -> int:
        """Return the id of the user who asks what this thread, which has not stepped back yet, is to answer.

        A kernel that maps owners tells it of nothing but new files (fs/fuse/dev.c ``fuse_get_req``), and of the rest
        which process asks, which waits for us. When that is not visible from here, the user is nobody that there is.
        """
        header = InHeader.unpack(self._asked)
        if header.uid == _NOT_TOLD:
            with suppress(OSError, StopIteration), open(f"/proc/{header.pid}/status", "rb") as lines:
                return int(next(line for line in lines if line.startswith(b"Uid:")).split()[4])  # for files
        return header.uid

    def step_back(self) -> None:
        """Let another thread take the next requests, for this one may be busy for a while."""
        if self._leader == threading.get_ident():
            self._leader = 0
            self._lead.release()


def _refuse(_nodeid: int, _body: bytes, _unique: int) -> bytes:
    raise RefusedRequest(errno.ENOSYS)
