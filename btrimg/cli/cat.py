"""``btrimg cat``: the bytes of a file."""

from __future__ import annotations

import sys

from btrimg.cli.command import command
from btrimg.cli.parameters import NO_VERIFY, OPENING, SUBVOLUME, TARGET, open_inode, open_target, size_option
from btrimg.errors import NotFoundError
from btrimg.units import MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from btrimg.cli.parameters import Target


@command(
    TARGET,
    size_option("offset", "--offset", "First byte.", 0),
    size_option("length", "--length", "Bytes to write; without it, to the end."),
    NO_VERIFY,
    SUBVOLUME,
    *OPENING,
)
def cat(target: Target, offset: int, length: int | None, no_verify: bool, subvolume: int, **opening: Any) -> int:
    """Write the bytes of a file to standard output, each verified against its checksum.

    \b
      btrimg cat disk.img:/etc/fstab
      btrimg cat disk.img:/var/log/syslog --offset 1MiB --length 64K

    A sector that fails its checksum on every copy ends the output with exit code 1; the bytes before it are right.
    """
    from btrimg.filesystem.data import segments

    with open_target(target, **opening) as image:
        inode = open_inode(image, target, subvolume)
        if not inode.is_regular:
            raise NotFoundError(f"{inode.quoted} is not a regular file")
        end = inode.item.size if length is None else min(offset + length, inode.item.size)
        out = sys.stdout.buffer
        cursor = offset
        for at, piece in segments(inode, offset, end, verify=not no_verify):
            _write_zeros(out, at - cursor)
            out.write(piece)
            cursor = at + len(piece)
        _write_zeros(out, end - cursor)
        out.flush()
    return 0


def _write_zeros(out: Any, count: int) -> None:
    block = bytes(MIB) if count >= MIB else b""
    for _ in range(count // MIB):
        out.write(block)
    if count > 0:
        out.write(bytes(count % MIB))
