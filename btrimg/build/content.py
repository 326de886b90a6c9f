"""The bytes that a recipe's content stands for, made piece by piece."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from btrimg.errors import BtrimgError, RefusedError
from btrimg.named import NamedTuple
from btrimg.units import KIB, MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.build.values import Content

    Read = Callable[[int], bytes]  # gives so many of the next bytes

_BLOCK = 4 * KIB  # of stamped text
_LINE = b"." * 63 + b"\n"
_UNIT = 64 * KIB  # bytes of a pattern that are kept


class Surroundings(NamedTuple):
    """What content depends on besides itself."""

    directory: bytes  #: of the host, from which paths of the host go
    seed: bytes  #: of the filesystem
    label: str  #: of the entry


@contextmanager
def reading(content: Content, around: Surroundings, offset: int = 0) -> Iterator[tuple[Read, int]]:
    """Give a function that reads the bytes of *content* in order, and how many there are.

    *offset* is where in the file they go, as stamps say. Raises BtrimgError for a file of the host that cannot be read
    or is shorter than the recipe says.
    """
    if content.kind == "host":
        with _host_file(content, around) as opened:
            yield opened
        return
    size = content.size or 0
    if content.kind == "bytes":
        yield _sliced(content.data), size
    elif content.kind == "zeros":
        yield bytes, size
    elif content.kind == "random":
        from hashlib import shake_128

        seed = content.data if content.own_seed else b"%b/%b%b" % (around.seed, around.label.encode(), content.data)
        yield (
            _in_pieces(
                MIB, size, lambda number, length: shake_128(b"btrimg random %b %d" % (seed, number)).digest(length)
            ),
            size,
        )
    elif content.kind == "pattern":
        unit = content.data * -(-_UNIT // len(content.data))
        yield _in_pieces(len(unit), size, lambda _, length: unit[:length]), size
    else:
        yield (
            _in_pieces(_BLOCK, size, lambda number, length: _stamped(content.data, offset + number * _BLOCK)[:length]),
            size,
        )


def content_bytes(content: Content, around: Surroundings, most: int) -> bytes:
    """Return all bytes of *content*; errors are those of :func:`reading`, and RefusedError for more than *most*."""
    with reading(content, around) as (read, size):
        if size > most:
            raise RefusedError(f"{size} bytes are too many: take at most {most}")
        return read(size)


def _sliced(data: bytes) -> Read:
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    return read


def _in_pieces(length: int, total: int, piece: Callable[[int, int], bytes]) -> Read:
    """Return a reader of bytes that come in pieces of *length*, each made by its number and length when it is due."""
    number, rest = 0, b""

    def read(size: int) -> bytes:
        nonlocal number, rest
        parts, missing = [rest], size - len(rest)
        while missing > 0:
            made = piece(number, min(length, total - number * length))
            parts.append(made)
            missing -= len(made)
            number += 1
        whole = b"".join(parts)
        rest = whole[size:]
        return whole[:size]

    return read


def _stamped(stamp: bytes, offset: int) -> bytes:
    """Return a block of text that says the stamp and *offset*, a line of dots after the other behind it."""
    head = b"%b at %d\n" % (stamp, offset)
    lines, left = divmod(_BLOCK - len(head), len(_LINE))
    return head + _LINE * lines + _LINE[-left:] * bool(left)


@contextmanager
def _host_file(content: Content, around: Surroundings) -> Iterator[tuple[Read, int]]:
    path = os.path.join(around.directory, content.data)
    try:
        # A FIFO must not make us wait.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BtrimgError(f"{os.fsdecode(path)!a} cannot be read: {error.strerror}") from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise BtrimgError(f"{os.fsdecode(path)!a} is no regular file")
    with open(fd, "rb", buffering=0) as file:
        there = found.st_size - content.skip
        size = max(there, 0) if content.size is None else content.size
        if size > there:
            raise BtrimgError(
                f"{os.fsdecode(path)!a} has {found.st_size} bytes, and {content.skip} + {size} are wanted"
            )
        file.seek(content.skip)
        yield _exactly(file.read, path), size


def _exactly(read: Callable[[int], bytes], path: bytes) -> Read:
    """Return a reader that gives all bytes that it is asked for; it raises BtrimgError when the file ends before."""

    def read_all(size: int) -> bytes:
        parts = []
        try:
            while size > 0 and (part := read(size)):
                parts.append(part)
                size -= len(part)
        except OSError as error:
            raise BtrimgError(f"{os.fsdecode(path)!a} cannot be read: {error.strerror}") from None
        if size:
            raise BtrimgError(f"{os.fsdecode(path)!a} became shorter while it was read")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return read_all
