"""``btrimg ls``: list a directory."""

from __future__ import annotations

import stat
import sys

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target
from btrimg.cli.terminal import paint
from btrimg.errors import BtrimgError, CorruptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.inode import Inode


@command(
    TARGET,
    Option("long", ("-l", "--long"), "Show mode, links, owner, size, time, subvolume and inode."),
    Option("recursive", ("-R", "--recursive"), "List what is below, too; crosses into subvolumes."),
    JSON,
    SUBVOLUME,
    *OPENING,
)
def ls(target: Target, long: bool, recursive: bool, as_json: bool, subvolume: int, **opening: Any) -> int:
    """List a directory, in order of creation; without PATH, the top one.

    \b
      btrimg ls disk.img
      btrimg ls -lR disk.img:/home
      btrimg ls disk.img:/ --json

    What cannot be read is named in a warning and skipped; the exit code is then 1.
    """
    from btrimg.render import listing

    with open_target(target, **opening) as image:
        top = open_inode(image, target, subvolume, follow=not long)
        render = listing.json_line if as_json else listing.long_line if long else listing.short_line
        for name, inode in _listed(top, recursive=recursive):
            try:
                print(render(name, inode, _paint if sys.stdout.isatty() else listing.plain))
            except BtrimgError as error:
                image.report(CorruptError(f"{inode.quoted}: {error}"))
        return 1 if image.faults else 0


def _paint(text: str, inode: Inode) -> str:
    """Return a name in the colour of its kind: directories blue, symlinks cyan, special files yellow."""
    kind = stat.S_IFMT(inode.item.mode)
    colour = {stat.S_IFREG: "", stat.S_IFDIR: "blue", stat.S_IFLNK: "cyan"}.get(kind, "yellow")
    return paint(text, colour, sys.stdout) if colour else text


def _listed(top: Inode, *, recursive: bool) -> Iterator[tuple[bytes, Inode]]:
    """Return (name as listed, inode) pairs; of a recursive listing the name is the path from *top*."""
    from btrimg.filesystem.walk import walk

    if not top.is_directory:
        return iter([(top.path.rpartition(b"/")[2], top)])
    if recursive:
        skip = len(top.path) + 1
        return ((inode.path[skip:], inode) for inode in walk(top))
    return ((entry.name, inode) for entry, inode in top.entries())
