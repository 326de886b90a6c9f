"""Entries read by a process of their own, beside the one that builds: opening and reading files takes as long as that.

A thread would wait for the interpreter that both need; it gained a twentieth of what this gains.
"""

from __future__ import annotations

import mmap
import pickle
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from btrimg.build.entries import PIECE, Entry
from btrimg.errors import BtrimgError
from btrimg.forked import beside, cores
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from btrimg.forked import Line

    Source: TypeAlias = Callable[..., Iterable[Entry]]  # takes warn=
    Told: TypeAlias = tuple[tuple[Any, ...], bytes]  # fields of an entry or a piece, and its content

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
    if cores() == 1:
        yield source(warn=warn)
        return
    with (
        mmap.mmap(-1, _SLOTS * _SLOT) as contents,
        beside(lambda line: _serve(_Sender(contents, line), source)) as line,
    ):
        yield _entries(_told(contents, line, warn))


# The process that reads


def _serve(sender: _Sender, source: Source) -> None:
    """Tell all entries of *source*."""
    try:
        for entry in source(warn=lambda text: sender.tell(_WARNING, text)):
            sender.tell_entry(entry)
        sender.tell(_END, None)
    except Exception as error:  # our parent raises it
        sender.tell(_ERROR, pickle.dumps(error))
    sender.send()


class _Sender:
    """Gathers what is told into messages."""

    def __init__(self, contents: mmap.mmap, line: Line) -> None:
        self._contents, self._line = contents, line
        self._free = _SLOTS
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
        if not self._told:
            if self._free:
                self._free -= 1
            else:
                self._line.hear()  # that one is free again
        self._told.append((kind, len(data), what))
        end = self._at + len(data)
        self._contents[self._at : end] = data
        self._at = end
        if end - self._slot >= _AT_ONCE or len(self._told) >= _MANY:
            self.send()

    def send(self) -> None:
        """Send what was told."""
        self._line.tell(self._told)
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


def _told(contents: mmap.mmap, line: Line, warn: Callable[[str], None]) -> Iterator[Told]:
    """Yield what is told of entries and pieces, each with its content; pass on warnings, raise errors."""
    slot = 0
    while True:
        try:
            told = line.hear()
        except EOFError:
            raise BtrimgError("the process that reads the files was killed") from None
        at = slot
        for kind, length, what in told:
            if kind == _WARNING:
                warn(what)
            elif kind == _ERROR:
                raise pickle.loads(what)  # noqa: S301  # of a process of our own
            elif kind == _END:
                return
            else:
                yield what, contents[at : at + length]
                at += length
        with suppress(BrokenPipeError):  # it has told all, and gone
            line.tell(None)  # a slot is free
        slot = (slot + _SLOT) % len(contents)
