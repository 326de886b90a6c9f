"""Requests of one connection: several at once, interrupts, and an answer for whatever goes wrong."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.mounted import PATIENCE

from btrimg.errors import BtrimgError, ChecksumError, NotFoundError
from btrimg.mount.channel import Channel, RefusedRequest
from btrimg.mount.wire import InHeader, InitFlag, InitIn, InitOut, InterruptIn, Opcode, OutHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.mount.channel import Handler

SLOW, QUICK, SILENT = 100, 101, 102  # opcodes of our own


class Kernel:
    """The other side of a connection: sends requests and gets answers, whole ones, as /dev/fuse has them."""

    def __init__(self, *, eager: bool) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(PATIENCE)
        self.said: list[str] = []
        self.eager = eager and len(os.sched_getaffinity(0)) > 1
        self.channel = Channel(self.theirs.fileno(), self.said.append, eager=eager)

        self._threads: list[threading.Thread] = []

    def serve(self, handlers: dict[int, Handler], threads: int) -> None:
        self._threads = [threading.Thread(target=self.channel.serve, args=(handlers,)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ours.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.theirs.close()

    def ask(self, opcode: int, unique: int, body: bytes = b"", nodeid: int = 1, uid: int = 0, pid: int = 0) -> None:
        self._ours.send(InHeader(InHeader.SIZE + len(body), opcode, unique, nodeid, uid, 0, pid, 0, 0).pack() + body)

    def answer(self) -> tuple[int, int, bytes]:
        """Return unique, error and body of the next answer."""
        raw = self._ours.recv(1 << 16)
        header = OutHeader.unpack(raw)
        assert header.len == len(raw)
        return header.unique, header.error, raw[OutHeader.SIZE :]


@pytest.fixture(params=[False, True], ids=["patient", "eager"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    made = Kernel(eager=request.param)
    yield made
    made.close()


def test_one_request_that_takes_long_keeps_no_other_waiting_and_can_be_interrupted(kernel: Kernel) -> None:
    def slow(_nodeid: int, _body: bytes, unique: int) -> bytes:
        with kernel.channel.lengthy(unique) as check:
            for _ in range(100 * PATIENCE):
                check()
                time.sleep(0.01)
        return b"too late"

    kernel.serve({SLOW: slow, QUICK: lambda nodeid, body, _unique: bytes([nodeid]) + body}, threads=2)
    kernel.ask(SLOW, 1)
    kernel.ask(QUICK, 2, b"body", nodeid=7)
    assert kernel.answer() == (2, 0, b"\7body")
    kernel.ask(Opcode.INTERRUPT, 3, InterruptIn(1).pack())
    assert kernel.answer() == (1, -errno.EINTR, b"")
    kernel.ask(Opcode.INTERRUPT, 5, InterruptIn(1).pack())  # of what was answered: nothing to say
    kernel.ask(QUICK, 4)
    assert kernel.answer() == (4, 0, b"\1")


@pytest.mark.parametrize(
    ("error", "number", "said"),
    [
        (RefusedRequest(errno.ENODATA), errno.ENODATA, []),
        (NotFoundError("not there"), errno.ENOENT, []),
        (ChecksumError("bad sector"), errno.EIO, ["bad sector"]),
        (OSError(errno.ENOSPC, "No space"), errno.EIO, ["[Errno 28] No space"]),
        (MemoryError(), errno.ENOMEM, []),
        (KeyError("a defect"), errno.EIO, ["KeyError: 'a defect'"]),
    ],
)
def test_whatever_goes_wrong_is_answered(error: Exception, number: int, said: list[str], kernel: Kernel) -> None:
    def fail(_nodeid: int, _body: bytes, _unique: int) -> bytes:
        raise error

    kernel.serve({QUICK: fail}, threads=1)
    kernel.ask(QUICK, 9)
    assert kernel.answer() == (9, -number, b"")
    assert kernel.said == said


def test_what_no_handler_is_for_is_not_implemented_and_silence_is_kept(kernel: Kernel) -> None:
    kernel.serve({SILENT: lambda *_: None}, threads=1)
    kernel.ask(SILENT, 1)
    kernel.ask(QUICK, 2)
    assert kernel.answer() == (2, -errno.ENOSYS, b"")


def test_only_what_both_sides_can_do_is_agreed(kernel: Kernel) -> None:
    offered = InitFlag.MAX_PAGES | InitFlag.INIT_EXT | InitFlag.PASSTHROUGH
    asked = InitIn(7, 45, 1 << 17, offered & 0xFFFF_FFFF, offered >> 32, (0,) * 11)
    kernel.ask(Opcode.INIT, 1, asked.pack())
    wanted = InitFlag.PASSTHROUGH | InitFlag.INIT_EXT | InitFlag.CACHE_SYMLINKS
    agreed = kernel.channel.negotiate(wanted, read_ahead=1 << 20)
    assert agreed == (offered, InitFlag.PASSTHROUGH | InitFlag.INIT_EXT)
    unique, error, body = kernel.answer()
    answer = InitOut.unpack(body)
    assert (unique, error, answer.max_stack_depth, answer.max_readahead) == (1, 0, 1, 1 << 20)
    assert (answer.flags, answer.flags2) == (InitFlag.INIT_EXT, InitFlag.PASSTHROUGH >> 32)


def test_an_old_kernel_is_told_apart(kernel: Kernel) -> None:
    kernel.ask(Opcode.INIT, 1, InitIn(7, 19, 0, 0, 0, (0,) * 11).pack()[:16])
    with pytest.raises(BtrimgError, match=r"speaks FUSE 7\.19"):
        kernel.channel.negotiate(InitFlag(0), read_ahead=0)
    assert kernel.answer()[1] == -errno.EPROTO


def test_who_closes_a_file_waits_for_nobody_but_is_answered(kernel: Kernel) -> None:
    kernel.ask(Opcode.RELEASE, 1)
    kernel.ask(QUICK, 2)
    kernel.ask(Opcode.RELEASE, 3)
    kernel.ask(Opcode.RELEASE, 4)
    kernel.serve({Opcode.RELEASE: lambda *_: b"", QUICK: lambda *_: b"now"}, threads=1)
    answers = [kernel.answer() for _ in range(4)]
    assert sorted(answers) == [(1, 0, b""), (2, 0, b"now"), (3, 0, b""), (4, 0, b"")]
    assert answers[0][0] == (2 if kernel.eager else 1)


def test_who_asks_is_not_taken_for_who_closes_a_file_that_another_thread_answers(kernel: Kernel) -> None:
    led, closed = threading.Event(), threading.Event()

    def slow(_nodeid: int, _body: bytes, unique: int) -> bytes:
        with kernel.channel.lengthy(unique):
            led.wait(PATIENCE)  # until another thread has begun to answer
        return b""

    def release(*_: object) -> bytes:
        closed.set()
        return b""

    def who(*_: object) -> bytes:
        led.set()
        closed.wait(PATIENCE)
        return str(kernel.channel.uid()).encode()

    kernel.ask(Opcode.RELEASE, 1)  # the kernel's own, uid 0
    kernel.ask(SLOW, 2)
    kernel.ask(QUICK, 3, uid=1234)
    kernel.serve({SLOW: slow, QUICK: who, Opcode.RELEASE: release}, threads=2)
    answers = sorted(kernel.answer() for _ in range(3))
    assert answers == [(1, 0, b""), (2, 0, b""), (3, 0, b"1234")]


def test_who_asks_is_seen_from_the_process_where_only_that_is_told(kernel: Kernel) -> None:
    kernel.serve({QUICK: lambda *_: str(kernel.channel.uid()).encode()}, threads=1)
    nobody = subprocess.Popen(["sleep", "1000"], user=65534) if not os.geteuid() else None
    asked = {1: (7, 0), 2: (2**32 - 1, os.getpid()), 3: (2**32 - 1, 0)}
    if nobody:
        asked[4] = (2**32 - 1, nobody.pid)
    try:
        for unique, (uid, pid) in asked.items():
            kernel.ask(QUICK, unique, uid=uid, pid=pid)
        answers = [int(kernel.answer()[2]) for _ in asked]
    finally:
        if nobody:
            nobody.kill()
            nobody.wait()
    assert answers == [7, os.geteuid(), 2**32 - 1, 65534][: len(asked)]
