"""``btrimg inspect rootid``: from a path to the subvolume that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(TARGET, JSON, SUBVOLUME, *OPENING)
def rootid(target: Target, as_json: bool, subvolume: int, **opening: Any) -> int:
    """Show the id of the subvolume that holds a file or directory; of a subvolume's top directory, its own.

    \b
      btrimg inspect rootid disk.img:/home/a.txt
      btrimg inspect rootid /mnt/home --json | jq .subvolume
    """
    from btrimg.render import answers

    with open_target(target, **opening) as image:
        inode = open_inode(image, target, subvolume)
        found = inode.subvolume.id
        print(answers.json_line({"path": answers.name(inode.path or b"/"), "subvolume": found}) if as_json else found)
    return 0
