"""Parameters that verbs of ``btrimg edit`` share; what converts raises ValueError with a sentence."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option
from btrimg.cli.terminal import standard_input
from btrimg.edit.pathnames import image_path
from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from btrimg.build.values import Compression, Storage
    from btrimg.ondisk.inodes import Timespec

_RANGE = r"(?s)(.+)@([^@+/]+)(?:\+([^@+/]+))?"


class Surroundings:
    """What a shell changes of what its verbs find."""

    absolute: Callable[[bytes], bytes] = staticmethod(lambda path: path)  #: makes paths in the image absolute
    has_stdin = True  #: whether - is standard input


surroundings = Surroundings()


class FileRange(NamedTuple):
    """A file in the image, and a range of it."""

    path: bytes
    offset: int
    length: int | None  #: None: to the end


def parse_path(text: str) -> bytes:
    """Return a path in the image."""
    return image_path(surroundings.absolute(os.fsencode(text)))


def parse_host(text: str) -> bytes:
    """Return a path on the host."""
    if not text or "\0" in text:
        raise ValueError("name a file of the host")
    return os.fsencode(text)


def parse_owner(text: str) -> tuple[int, int]:
    """Return uid and gid of ``UID:GID``, or of one number for both."""
    from btrimg.build.readers import read_owner

    return read_owner(text)


def parse_time(text: str) -> Timespec:
    """Return a time, as docs/recipes.md has them."""
    from btrimg.build.readers import read_time

    return read_time(text)


def parse_compression(text: str) -> Compression:
    """Return an algorithm with its level."""
    from btrimg.build.readers import read_compression

    return read_compression(text)


def parse_range(text: str) -> FileRange:
    """Return what PATH, PATH@OFFSET or PATH@OFFSET+LENGTH names."""
    import re

    found = re.fullmatch(_RANGE, text)
    if found is None:
        return FileRange(parse_path(text), 0, None)
    length = None if found[3] is None else parse_size(found[3])
    if length == 0:
        raise ValueError(f"{text!a}: a length is above 0; leave it out for all up to the end")
    return FileRange(parse_path(found[1]), parse_size(found[2]), length)


PATH = Argument("path", "PATH", parse_path)
PATHS = Argument("paths", "PATH...", parse_path, many=True)
OWNER = Option("owner", ("--owner",), "Owner: 0:0 for root.", parse_owner, "UID:GID")
COMPRESS = Option("compress", ("--compress",), "Compress: zlib, lzo, zstd, or none.", parse_compression, "ALGO[:LEVEL]")


def storage_of(compress: Compression | None) -> Storage:
    """Return how content is kept."""
    from btrimg.build.values import Storage

    return Storage(compress)


def stdin() -> BinaryIO:
    """Return standard input.

    Raises BtrimgError when it is closed, or a shell's.
    """
    if not surroundings.has_stdin:
        raise BtrimgError("-: standard input is what the shell reads its lines from; name a file")
    return standard_input("-").buffer


def sources_and_target(names: tuple[str, ...], convert: Any, what: str) -> tuple[list[bytes], bytes]:
    """Return what comes before the last of *names*, and that; raise BtrimgError."""
    if len(names) < 2:
        raise BtrimgError(f"{what} takes what to {what}, and where to: two names at least")
    try:
        return [convert(name) for name in names[:-1]], parse_path(names[-1])
    except ValueError as error:
        raise BtrimgError(f"{what}: {error}") from None
