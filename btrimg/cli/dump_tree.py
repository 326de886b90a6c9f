"""``btrimg inspect dump-tree``: the items of trees, in btrfs-progs' own text or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON, Target, open_target, parse_target
from btrimg.errors import BlockError, CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.ondisk.constants import Incompat, TreeId
from btrimg.ondisk.keynames import highest_key, lowest_key, tree_id
from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from btrimg.filesystem.forest import Root
    from btrimg.filesystem.image import Image
    from btrimg.render.style import Style
    from btrimg.trees.block import Block, Pointer

_BY_SUPERBLOCK = (TreeId.ROOT_TREE, TreeId.CHUNK_TREE, TreeId.TREE_LOG)
# Asked for by name, their heading shows no root item, and a dump of nothing else ends without totals: as btrfs does it.
_BARE = (*_BY_SUPERBLOCK, TreeId.BLOCK_GROUP_TREE)


class Choice(NamedTuple):
    """Which trees to show."""

    superblock_roots: bool  #: those that the superblock leads to
    trees: Collection[int] | None  #: ids of further ones, None for all
    by_name: bool  #: the person named them
    leaves_only: bool
    totals: bool


class Form(NamedTuple):
    """How to show them."""

    style: Style
    first: Key
    last: Key
    depth_first: bool
    as_json: bool


@command(
    Argument("targets", "DEVICE...", parse_target, many=True, is_path=True),
    Option("extents", ("-e", "--extents"), "Show the leaves of extent tree and device tree only."),
    Option("device", ("-d", "--device"), "Show root tree, chunk tree and device tree only."),
    Option("roots", ("-r", "--roots"), "Show where the root of each tree is, one line each."),
    Option("backups", ("-R", "--backups"), "As --roots, and the backup roots of the superblock."),
    Option("uuids", ("-u", "--uuid"), "Show the uuid tree only."),
    Option("blocks", ("-b", "--block"), "Show this block; may be repeated.", parse_size, "LOGICAL", many=True),
    Option("trees", ("-t", "--tree"), "Show this tree; may be repeated.", tree_id, "TREE", many=True),
    Option("follow", ("--follow",), "With -b, show what is below the block too."),
    Option("noscan", ("--noscan",), "Does nothing: no devices but those named are ever read."),
    Option("bfs", ("--bfs",), "Show each tree level by level (default)."),
    Option("dfs", ("--dfs",), "Show each node before what is below it."),
    Option("hide_names", ("--hide-names",), "Hide names of files, subvolumes and xattrs, and what xattrs hold."),
    Option("csum_headers", ("--csum-headers",), "Show the checksum of each block."),
    Option("csum_items", ("--csum-items",), "Show the checksums of data."),
    Option("first", ("--from",), "Show no lower keys.", lowest_key, "KEY"),
    Option("last", ("--to",), "Show no higher keys.", highest_key, "KEY"),
    Option("force", ("--force",), "Open in spite of unknown features."),
    JSON,
    name="dump-tree",
)
def dump_tree(targets: tuple[Target, ...], force: bool, **options: Any) -> int:
    """Show the blocks and items of trees, in the layout of btrfs inspect-internal dump-tree; times are in UTC.

    DEVICE... are all devices of one filesystem, or some of them. TREE is a number or one of the names that btrfs takes:
    root, extent, chunk, dev, fs, csum, quota, uuid, free_space, tree_log, tree_reloc, data_reloc, block_group,
    raid_stripe, remap. KEY is OBJECTID[,TYPE[,OFFSET]] in numbers or names.

    \b
      btrimg inspect dump-tree disk.img
      btrimg inspect dump-tree -t fs -t 256 --from 257 --to 257,EXTENT_DATA disk.img
      btrimg inspect dump-tree -b 30408704 --follow disk1.img disk2.img
      btrimg inspect dump-tree -t csum --json disk.img | jq '.items[].key.offset'

    A block that is not what its parent promised is shown all the same as far as it can be read, below a line that
    begins with BAD and says why; the exit code is then 1.

    JSON, one object per block: "block" (logical address), "tree", "root" (key of the root item), "fault" (null, or why
    the block is bad), "header", then "pointers" (of a node: "slot", "key", "blockptr", "generation") or "items" (of a
    leaf: "slot", "key", "type", "offset", "size", "records", "tail"). "records" are the structures in the item, each
    with the fields it has on disk and its name under "record"; "tail" is what follows them, in hexadecimal. Uuids are
    uuids, names text, other bytes hexadecimal. With --roots, one object per tree: "tree", "root", "bytenr", "level";
    with --backups then one per backup root, its "slot" and its fields.
    """
    paths = tuple(path for target in targets for path in target.devices)
    with open_target(Target(paths, None, targets[0].image), force=force) as image:
        form = _form(image, options)
        if not form.as_json:
            _version()
        if options["blocks"]:
            _dump_blocks(image, options["blocks"], form, follow=options["follow"])
        elif options["roots"] or options["backups"]:
            _list_roots(image, _choice(options), form, backups=options["backups"])
        else:
            _dump_trees(image, _choice(options), form)
        return 1 if image.faults else 0


def _form(image: Image, options: dict[str, Any]) -> Form:
    from btrimg.render.style import Style

    superblock = image.superblock
    style = Style(
        superblock.csum_type,
        superblock.sectorsize,
        bool(superblock.incompat_flags & Incompat.SIMPLE_QUOTA),
        *(options[name] for name in ("hide_names", "csum_headers", "csum_items")),
    )
    depth_first = options["dfs"] and not options["bfs"]
    return Form(style, options["first"] or KEY_MIN, options["last"] or KEY_MAX, depth_first, options["as_json"])


def _choice(options: dict[str, Any]) -> Choice:
    if options["trees"]:
        return Choice(False, options["trees"], True, False, any(tree not in _BARE for tree in options["trees"]))
    only = (
        *((TreeId.EXTENT_TREE, TreeId.DEV_TREE) if options["extents"] else ()),
        *((TreeId.DEV_TREE,) if options["device"] else ()),
        *((TreeId.UUID_TREE,) if options["uuids"] else ()),
    )
    return Choice(not only or options["device"], only or None, False, options["extents"], not only)


def _version() -> None:
    from importlib.metadata import version

    print(f"btrimg {version('btrimg')}")


def _chosen(image: Image, choice: Choice) -> Iterable[Root]:
    """Yield the chosen trees, and report those that do not exist."""
    from btrimg.filesystem.forest import item_roots, superblock_roots

    wanted = choice.trees
    missing = set(wanted or ())
    for root in superblock_roots(image):
        if choice.superblock_roots or (wanted and root.id in wanted):
            missing.discard(root.id)
            yield root
    for root in item_roots(image, bad=None if choice.superblock_roots else image.report):
        if wanted is None or (root.id in wanted and root.id not in _BY_SUPERBLOCK):
            missing.discard(root.id)
            yield root
    for tree in sorted(missing):
        image.report(CorruptError(f"found no tree {tree}"))


def _dump_trees(image: Image, choice: Choice, form: Form) -> None:
    from btrimg.render.dump_tree import total_lines, tree_heading

    for root in _chosen(image, choice):
        if not form.as_json:
            bare = choice.by_name and root.id in _BARE
            heading = tree_heading(root.id, None if bare else root.key)
            print(heading.rstrip() if choice.leaves_only else heading)
        _dump_below(image, root.at, root.key, form, leaves_only=choice.leaves_only)
    if choice.totals and not form.as_json:
        print("\n".join(total_lines(image.superblock)))


def _dump_blocks(image: Image, blocks: Iterable[int], form: Form, *, follow: bool) -> None:
    from btrimg.trees.salvage import claim_of

    for logical in blocks:
        at = claim_of(image.blocks, logical)
        if follow:
            _dump_below(image, at, None, form)
        else:
            _dump_block(image, at, None, form)


def _dump_below(image: Image, at: Pointer, root: Key | None, form: Form, *, leaves_only: bool = False) -> None:
    from btrimg.trees.salvage import walk

    for pointer, found in walk(image.blocks, at, form.first, form.last, depth_first=form.depth_first):
        if not leaves_only or isinstance(found, BlockError) or not found.header.level:
            _show(image, pointer, found, root, form)


def _dump_block(image: Image, at: Pointer, root: Key | None, form: Form) -> None:
    from btrimg.trees.salvage import read_anyway

    try:
        found: Block | BlockError = read_anyway(image.blocks, at)
    except BlockError as error:
        found = error
    _show(image, at, found, root, form)


def _show(image: Image, at: Pointer, found: Block | BlockError, root: Key | None, form: Form) -> None:
    from btrimg.render import dump_json, dump_tree
    from btrimg.render.answers import json_line
    from btrimg.trees.salvage import fault_of

    fault = fault_of(found)
    if fault:
        image.report(CorruptError(fault))
    if form.as_json:
        block = dump_json.block_object(at, found, root, form.first, form.last, hide_names=form.style.hide_names)
        print(json_line(block))
    else:
        print("\n".join(dump_tree.found_lines(found, form.style, form.first, form.last)))


def _list_roots(image: Image, choice: Choice, form: Form, *, backups: bool) -> None:
    from btrimg.render import dump_json, dump_tree
    from btrimg.render.answers import json_line

    for root in _chosen(image, choice):
        if form.as_json:
            print(json_line(dump_json.root_object(root.id, root.key, root.at)))
        else:
            print(dump_tree.root_line(root.id, root.key, root.at))
    if backups and form.as_json:
        for slot, backup in enumerate(image.superblock.super_roots):
            print(json_line({"slot": slot, **dump_json.record_object(backup)}))
    elif backups:
        print("\n".join(dump_tree.backup_lines(image.superblock)))
    if choice.totals and not form.as_json:
        print("\n".join(dump_tree.total_lines(image.superblock)))
