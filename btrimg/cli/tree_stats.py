"""``btrimg inspect tree-stats``: sizes and seeks of trees."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, TARGET, open_target
from btrimg.cli.progress import counting
from btrimg.cli.unit_options import UNITS, take_units
from btrimg.errors import CorruptError, NotFoundError
from btrimg.ondisk.constants import TreeId
from btrimg.ondisk.keynames import tree_id
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.trees.stats import TreeStats

_TREES = {
    "root tree": TreeId.ROOT_TREE,
    "extent tree": TreeId.EXTENT_TREE,
    "csum tree": TreeId.CSUM_TREE,
    "fs tree": TreeId.FS_TREE,
}


@command(
    TARGET,
    Option("in_bytes", ("-b",), "Show bytes as plain numbers."),
    Option("trees", ("-t",), "Of this tree; may be repeated.", tree_id, "TREE", many=True),
    *UNITS,
    JSON,
    *OPENING,
    name="tree-stats",
)
def tree_stats(target: Target, in_bytes: bool, trees: tuple[int, ...], as_json: bool, **options: Any) -> int:
    """Show sizes and seeks of the root, extent, csum and fs tree, or of others.

    A seek is a step, from a node to its first child or from child to child, to a block that is not the next one on
    disk; a cluster is what is read without one. TREE is a number or a name, as for dump-tree.

    \b
      btrimg inspect tree-stats disk.img
      btrimg inspect tree-stats -b -t 256 -t uuid disk.img
      btrimg inspect tree-stats disk.img --json | jq '[.tree, .nodes]'

    JSON, one object per tree: "tree" (id); "size" of its blocks and "inline_bytes" of data in them; "nodes" on each
    level, from the leaves up; "total_seeks", "forward_seeks", "backward_seeks"; "average_seek"; "seeks", a list of
    [distance, how often]; "clusters" of more than one block, their "average_cluster", "smallest_cluster" and
    "largest_cluster"; "spread", from the lowest logical address to the highest. Sizes and distances are in bytes.
    """
    from btrimg.render import tree_stats as render
    from btrimg.render.answers import json_line

    units = take_units(options)
    if in_bytes:
        units = units._replace(raw=True)
    chosen = {f"tree ({number})": number for number in trees} or _TREES
    with open_target(target, **options) as image, counting("reading", "trees", printing=True) as progress:
        for name, number in chosen.items():
            started = perf_counter()
            try:
                stats = _stats(image, number)
            except (CorruptError, NotFoundError) as error:
                image.report(CorruptError(f"no statistics of {name}: {error}"))
                continue
            progress(1, sum(stats.nodes) * stats.nodesize)
            if as_json:
                print(json_line({"tree": number, **render.stats_object(stats)}))
                continue
            print(f"Calculating size of {name}")
            print("\n".join(render.lines(stats, units.text, perf_counter() - started)))
        return 1 if image.faults else 0


def _stats(image: Image, number: int) -> TreeStats:
    from btrimg.trees.stats import tree_stats

    return tree_stats(image.blocks, image.tree(number).root, image.report, inline=is_subvolume(number))
