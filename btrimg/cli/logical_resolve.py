"""``btrimg inspect logical-resolve``: from a logical address to paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.locate import paths_in
from btrimg.cli.parameters import FORCE, FURTHER_DEVICES, JSON, TARGET, VERBOSE, open_target
from btrimg.units import parse_size

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(
    Argument("logical", "LOGICAL", parse_size),
    TARGET,
    Option("inodes", ("-P",), "Show inode, offset and root instead of paths."),
    Option("ignore_offset", ("-o",), "Show every use of the extent, whether it reaches LOGICAL or not."),
    Option("bufsize", ("-s",), "Accepted; no buffer limits the answer.", parse_size, "SIZE"),
    VERBOSE,
    JSON,
    FURTHER_DEVICES,
    FORCE,
    name="logical-resolve",
)
def logical_resolve(
    logical: int,
    target: Target,
    inodes: bool,
    ignore_offset: bool,
    bufsize: int | None,
    verbose: bool,
    as_json: bool,
    device: tuple[str, ...],
    force: bool,
) -> int:
    """Show the files that use the byte at LOGICAL, one path for each use and hard link.

    \b
      btrimg inspect logical-resolve 72368128 disk.img
      btrimg inspect logical-resolve -P -o 72368128 disk.img

    Paths start at the top-level subvolume, whatever is mounted. Offsets of compressed file extents, and all with -o,
    are those of the file extent's first byte. With --json one object for each use: subvolume, inode, offset, length,
    kind, compression, paths. btrimg locate tells more.
    """
    from btrimg.filesystem.locate import Locator
    from btrimg.render.answers import json_line
    from btrimg.render.located import sharer_object
    from btrimg.render.text import printable

    with open_target(target, device=device, force=force) as image:
        paths = paths_in(image)
        for use in Locator(image).users(logical, ignore_offset=ignore_offset):
            if as_json:
                print(json_line(sharer_object(use, paths)))
            elif inodes:
                print(f"inode {use.inode} offset {use.offset} root {use.subvolume}")
            else:
                for path in paths(use.subvolume, use.inode):
                    print(printable(path))
        return 1 if image.faults else 0
