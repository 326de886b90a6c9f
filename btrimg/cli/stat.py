"""``btrimg stat``: all that an inode says."""

from __future__ import annotations

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from btrimg.cli.parameters import Target


@command(
    TARGET,
    Option("dereference", ("-L", "--dereference"), "Follow a symbolic link at the end of PATH."),
    JSON,
    SUBVOLUME,
    *OPENING,
)
def stat(target: Target, dereference: bool, as_json: bool, subvolume: int, **opening: Any) -> int:
    """Show all that an inode says: mode, owner, sizes, times, flags, names and extended attributes.

    \b
      btrimg stat disk.img:/etc/passwd
      btrimg stat disk.img:/dev/sda --json

    Of the top directory of a subvolume also what its root item says. Times are UTC. In JSON, xattr values are
    hexadecimal, rdev is [major, minor], "root" is null or the subvolume: "parent" (id), "generation", "flags",
    "read_only", "default", "uuid", "parent_uuid" (of what it is a snapshot of), "received_uuid".
    """
    from btrimg.render import answers, listing

    with open_target(target, **opening) as image:
        inode = open_inode(image, target, subvolume, follow=dereference)
        print(answers.json_line(listing.stat_dict(inode)) if as_json else listing.stat_text(inode))
    return 0
