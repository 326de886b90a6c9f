"""Entries read by a process of their own, beside the one that builds: opening and reading files takes as long as that.

A thread would wait for the interpreter that both need; it gained a twentieth of what this gains.
"""

from __future__ import annotations

import marshal
import mmap
import os
import pickle
import struct
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from btrimg.build.entries import PIECE, Entry
from btrimg.errors import BtrimgError
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO, TypeAlias

    Source: TypeAlias = Callable[..., Iterable[Entry]]  # takes warn=
    Told: TypeAlias = tuple[tuple[Any, ...], bytes]  # fields of an entry or a piece, and its content

_SIZE = struct.Struct("<Q")  # before a message: its bytes
_AT_ONCE, _MANY = MIB, 256  # bytes of content, and things told, after which a message is sent
_SLOT = _AT_ONCE + PIECE  # bytes of content that a message can have
_SLOTS = 16  # so many messages may be on their way
_PIECES = Entry._fields.index("pieces")
_ENTRY, _WARNING, _ERROR, _END = range(4)  # what a message tells; pieces of content are told like entries


@contextmanager
def read_beside(source: Source, warn: Callable[[str], None]) -> Iterator[Iterable[Entry]]:
    """Give the entries of *source*, called with *warn*, read ahead by another process if there is a core for it.

    What it raises is raised here, by the next entry or piece that is asked for. At the end the process is gone.
    """
    if len(os.sched_getaffinity(0)) == 1:
        yield source(warn=warn)
        return
    from multiprocessing import get_context  # takes 10 ms

    with mmap.mmap(-1, _SLOTS * _SLOT) as contents, ExitStack() as stack:
        told, telling = (stack.enter_context(end) for end in _pipe())
        waiting, freeing = (stack.enter_context(end) for end in _pipe())
        child = get_context("fork").Process(
            target=_serve, args=((told, freeing), _Sender(contents, telling, waiting), source)
        )
        child.start()
        telling.close()  # so that it ends with the other process; *waiting* stays open: nobody may need what is freed
        try:
            yield _entries(_told(contents, told, freeing, warn))
        finally:
            child.kill()  # it may be waiting for its source, and has nothing to clean up
            child.join()


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return open(reading, "rb"), open(writing, "wb")


# The process that reads


def _serve(ends: tuple[BinaryIO, BinaryIO], sender: _Sender, source: Source) -> None:
    """Tell all entries of *source*, after closing *ends*, which are the parent's."""
    for end in ends:
        end.close()
    with suppress(BaseException):  # a signal, or a parent that has gone: nobody is left to be told of it
        try:
            for entry in source(warn=lambda text: sender.tell(_WARNING, text)):
                sender.tell_entry(entry)
            sender.tell(_END, None)
        except Exception as error:  # our parent raises it
            sender.tell(_ERROR, pickle.dumps(error))
        sender.send()


class _Sender:
    """Gathers what is told into messages."""

    def __init__(self, contents: mmap.mmap, told: BinaryIO, free: BinaryIO) -> None:
        self._contents, self._pipe, self._free = contents, told, free
        self._told: list[tuple[int, int, Any]] = []
        self._slot = self._at = 0  # where the content of this message begins, and the next content goes

    def tell_entry(self, entry: Entry) -> None:
        """Tell an entry with its content, where that is a single piece; else the pieces follow, and an empty one."""
        head, pieces, rest = entry[:_PIECES], entry.pieces, entry[_PIECES + 1 :]
        if isinstance(pieces, tuple) and (not pieces or (len(pieces) == 1 and not pieces[0][0])):
            data = pieces[0][1] if pieces else b""
            self.tell(_ENTRY, (*head, len(data), *rest), data)
            return
        self.tell(_ENTRY, (*head, None, *rest))
        for offset, data in pieces:
            self.tell(_ENTRY, (offset, len(data)), data)
        self.tell(_ENTRY, (0, 0))

    def tell(self, kind: int, what: Any, data: bytes = b"") -> None:
        """Tell *what*, which has *data*."""
        if not self._told and not self._free.read(1):
            raise BrokenPipeError
        self._told.append((kind, len(data), what))
        end = self._at + len(data)
        self._contents[self._at : end] = data
        self._at = end
        if end - self._slot >= _AT_ONCE or len(self._told) >= _MANY:
            self.send()

    def send(self) -> None:
        """Send what was told."""
        told = marshal.dumps(self._told)
        self._pipe.write(_SIZE.pack(len(told)) + told)
        self._pipe.flush()
        self._told = []
        self._slot = self._at = (self._slot + _SLOT) % len(self._contents)


# The process that builds


def _entries(told: Iterator[Told]) -> Iterator[Entry]:
    """Yield the entries that the other process tells of; the content of one is left out where nobody asked for it."""
    for what, data in told:
        head, size, rest = what[:_PIECES], what[_PIECES], what[_PIECES + 1 :]
        if size is not None:
            yield Entry._make((*head, ((0, data),) if size else (), *rest))
            continue
        pieces = _pieces(told)
        yield Entry._make((*head, pieces, *rest))
        for _ in pieces:
            pass


def _pieces(told: Iterator[Told]) -> Iterator[tuple[int, bytes]]:
    for (offset, size), data in told:
        if not size:
            return
        yield offset, data


def _told(contents: mmap.mmap, pipe: BinaryIO, free: BinaryIO, warn: Callable[[str], None]) -> Iterator[Told]:
    """Yield what is told of entries and pieces, each with its content; pass on warnings, raise errors."""
    free.write(bytes(_SLOTS))
    free.flush()
    slot = 0
    while True:
        (size,) = _SIZE.unpack(_read(pipe, _SIZE.size))
        at = slot
        for kind, length, what in marshal.loads(_read(pipe, size)):  # noqa: S302  # of a process of our own
            if kind == _WARNING:
                warn(what)
            elif kind == _ERROR:
                raise pickle.loads(what)  # noqa: S301
            elif kind == _END:
                return
            else:
                yield what, contents[at : at + length]
                at += length
        free.write(b"\0")
        free.flush()
        slot = (slot + _SLOT) % len(contents)


def _read(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise BtrimgError("the process that reads the files was killed")
    return data
