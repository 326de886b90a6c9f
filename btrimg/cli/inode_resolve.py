"""``btrimg inspect inode-resolve``: from an inode number to paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, VERBOSE, open_inode, open_target, parse_number
from btrimg.errors import NotFoundError

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(
    Argument("inode", "INODE", parse_number),
    TARGET,
    VERBOSE,
    JSON,
    SUBVOLUME,
    *OPENING,
    name="inode-resolve",
)
def inode_resolve(inode: int, target: Target, verbose: bool, as_json: bool, subvolume: int, **opening: Any) -> int:
    """Show every path of an inode of the subvolume that IMAGE:PATH lies in, the top-level one without PATH.

    \b
      btrimg inspect inode-resolve 257 disk.img
      btrimg inspect inode-resolve 257 disk.img:/home --json

    Paths start at the top-level subvolume. With --json one object: subvolume, inode, paths.
    """
    from btrimg.filesystem.namei import paths_of
    from btrimg.render.answers import json_line, name
    from btrimg.render.text import printable

    with open_target(target, **opening) as image:
        tree = open_inode(image, target, subvolume).subvolume.id
        paths = paths_of(image, tree, inode)
        if not paths:
            raise NotFoundError(f"there is no inode {inode} with a name in subvolume {tree}")
        if as_json:
            print(json_line({"subvolume": tree, "inode": inode, "paths": [name(path) for path in paths]}))
        else:
            print(*map(printable, paths), sep="\n")
    return 0
