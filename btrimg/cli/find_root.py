"""``btrimg inspect find-root``: roots of a tree, found among all tree blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, TARGET, open_target, parse_number
from btrimg.cli.progress import counting
from btrimg.errors import BtrimgError, NotFoundError
from btrimg.ondisk.constants import TreeId
from btrimg.ondisk.keynames import tree_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Pointer
    from btrimg.trees.hunt import Found


@command(
    TARGET,
    Option("tree", ("-o",), "Find roots of this tree, an id or a name.", tree_id, "OBJECTID", int(TreeId.ROOT_TREE)),
    Option("everything", ("-a",), "Search also if the root that is in use is sound."),
    Option("generation", ("-g",), "Find no older ones.", parse_number, "GENERATION", 0),
    Option("level", ("-l",), "Find none of a lower level.", parse_number, "LEVEL", 0),
    JSON,
    *OPENING,
    name="find-root",
)
def find_root(
    target: Target, tree: int, everything: bool, generation: int, level: int, as_json: bool, **opening: Any
) -> int:
    """Find blocks that may be the root of a tree, when what leads to it is lost; the best come first.

    Looks at every place of the metadata chunks (for the chunk tree, of the system chunks) for sound blocks of the tree,
    freed ones too, and shows of each generation those of the highest level. If the root that the superblock or the root
    tree names is sound, only that one is shown; -a searches all the same.

    \b
      btrimg inspect find-root disk.img
      btrimg inspect find-root -a -o 5 -g 1000 disk.img
      btrimg inspect find-root -a disk.img --json | jq 'select(.level > 0) | .logical'

    JSON, one object per block: "tree", "logical", "level", "generation", "items", "current" (whether it is the one in
    use; null where nothing tells).
    """
    from btrimg.render import roots
    from btrimg.render.answers import json_line

    with open_target(target, **opening) as image:
        expected = _expected(image, tree)
        known = None if everything or expected is None else _read(image, expected)
        with counting("looking for roots", ""):
            kept = (each for each in ([known] if known else _search(image, tree)) if each.generation >= generation)
            found = [each for each in kept if each.level >= level]
        faults = image.faults
    if not found:
        raise NotFoundError(f"no block of tree {tree} is left that could be its root")
    if as_json:
        for each in found:
            print(json_line(roots.root_object(tree, each, expected)))
    else:
        print("\n".join(roots.lines(tree, found, expected)))
    return 1 if faults else 0


def _expected(image: Image, tree: int) -> Pointer | None:
    """Return what the superblock or the root tree says of the root, None if neither can tell."""
    try:
        return image.tree(tree).root
    except BtrimgError as error:
        image.volume.warn(f"nothing tells where the root of tree {tree} is: {error}")
        return None


def _read(image: Image, root: Pointer) -> Found | None:
    from btrimg.trees.hunt import Found

    try:
        header = image.blocks.read(root).header
    except BtrimgError as error:
        image.volume.warn(f"the root in use is not sound: {error}")
        return None
    return Found(header.bytenr, header.level, header.generation, header.nritems)


def _search(image: Image, tree: int) -> Iterable[Found]:
    from btrimg.trees.hunt import candidates, hunt

    return candidates(hunt(image.blocks, tree, image.report))
