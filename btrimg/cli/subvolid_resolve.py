"""``btrimg inspect subvolid-resolve``: from a subvolume's id to its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, command
from btrimg.cli.parameters import JSON, OPENING, TARGET, open_target
from btrimg.errors import NotFoundError
from btrimg.ondisk.keynames import tree_id

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(Argument("subvolume", "ID", tree_id), TARGET, JSON, *OPENING, name="subvolid-resolve")
def subvolid_resolve(subvolume: int, target: Target, as_json: bool, **opening: Any) -> int:
    """Show the path of the subvolume ID, from the top-level subvolume; of that one, an empty line.

    \b
      btrimg inspect subvolid-resolve 256 disk.img
      btrimg inspect subvolid-resolve 256 disk.img --json | jq -r .path

    In JSON "path" starts with "/".
    """
    from btrimg.render import answers
    from btrimg.render.text import printable

    with open_target(target, **opening) as image:
        path = image.path_of_subvolume(image.subvolume(subvolume).id)
        if path is None:
            raise NotFoundError(f"subvolume {subvolume} hangs nowhere: it is being deleted, or its name is damaged")
        if as_json:
            print(answers.json_line({"subvolume": subvolume, "path": answers.name(path or b"/")}))
        else:
            print(printable(path.removeprefix(b"/")))
    return 0
