"""Verbs of ``btrimg edit`` about contents: write, truncate, punch, reflink."""

from __future__ import annotations

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.edit_parameters import (
    COMPRESS,
    PATH,
    PATHS,
    FileRange,
    parse_host,
    parse_range,
    stdin,
    storage_of,
)
from btrimg.errors import BtrimgError
from btrimg.filesystem.inode import quoted
from btrimg.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.build.values import Compression
    from btrimg.cli.verbs import Context


@command(
    Argument("source", "SRC", parse_host, is_path=True),
    PATH,
    Option("offset", ("--offset",), "Where in the file.", parse_size, "SIZE", 0),
    COMPRESS,
)
def write(context: Context, source: bytes, path: bytes, offset: int, compress: Compression | None) -> int:
    """Write all of SRC, a file of the host or - for standard input, into a file that is there.

    \b
      btrimg edit disk.img write boot.bin /vm/disk.raw --offset 446
      printf hello | btrimg edit disk.img write - /notes --offset 4K

    It is written to new extents, never over old data: what shares them keeps them.
    """
    storage = storage_of(compress)
    if source == b"-":
        context.files.write(stdin(), path, offset, storage)
        return 0
    try:
        with open(source, "rb") as stream:
            context.files.write(stream, path, offset, storage)
    except OSError as error:
        raise BtrimgError(f"{quoted(source)} cannot be read: {error.strerror}") from None
    return 0


@command(PATHS, Option("size", ("-s", "--size"), "Size from now on.", parse_size, "SIZE"))
def truncate(context: Context, paths: tuple[bytes, ...], size: int | None) -> int:
    """Cut files, or make them longer by a hole.

    \b
      btrimg edit disk.img truncate -s 0 /var/log/messages
      btrimg edit disk.img truncate -s 10G /vm/disk.raw
    """
    if size is None:
        raise BtrimgError("truncate: say to what size: -s SIZE")
    context.files.truncate(paths, size)
    return 0


@command(
    PATH,
    Option("offset", ("-o", "--offset"), "Where in the file.", parse_size, "SIZE", 0),
    Option("length", ("-l", "--length"), "How many bytes.", parse_size, "SIZE"),
)
def punch(context: Context, path: bytes, offset: int, length: int | None) -> int:
    """Make a range of a file a hole: whole sectors are given back, what else lies in it becomes zeros.

    \b
      btrimg edit disk.img punch -o 1M -l 64K /vm/disk.raw
    """
    if not length:
        raise BtrimgError("punch: say how much, above 0: -l LENGTH")
    context.files.punch(path, offset, length)
    return 0


@command(
    Argument("source", "SRC[@OFFSET+LENGTH]", parse_range),
    Argument("target", "PATH[@OFFSET]", parse_range),
)
def reflink(context: Context, source: FileRange, target: FileRange) -> int:
    """Let a file share the extents of another one, or of itself; it is made if it is not there.

    \b
      btrimg edit disk.img reflink /vm/disk.raw /vm/clone.raw
      btrimg edit disk.img reflink /vm/disk.raw@1M+64K /vm/clone.raw@8M

    Offsets are multiples of the sector size, and so is LENGTH unless it ends where SRC ends. A file whose name ends
    like that is named with @0.
    """
    if target.length is not None:
        raise BtrimgError("reflink: how much is shared is said of the source: SRC@OFFSET+LENGTH PATH@OFFSET")
    context.files.reflink(*source, target.path, target.offset)
    return 0
