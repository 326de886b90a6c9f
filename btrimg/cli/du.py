"""``btrimg du``: who uses how much."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target, parse_subvolume
from btrimg.cli.unit_options import UNITS, take_units
from btrimg.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.inode import Inode
    from btrimg.render.sizes import Units
    from btrimg.render.usage import SubvolumeRow, UsageRow
    from btrimg.tables.usage import Usage
    from btrimg.tables.usagetree import Tree


def parse_ids(text: str) -> list[int]:
    """Return ids of subvolumes, separated by commas; raise ValueError with a sentence."""
    return [parse_subvolume(word) for word in text.split(",")]


@command(
    TARGET._replace(name="targets", many=True),
    Option("summarize", ("-s", "--summarize"), "Show only a total for each argument."),
    Option("unreachable", ("-u", "--unreachable"), "Show what no file extent reaches inside the extents used."),
    Option("compression", ("-c", "--compression"), "Show what each type of compression takes, as compsize."),
    Option("subvolumes", ("--subvolumes",), "Show every subvolume, and what deleting it would free."),
    Option("ids", ("--free-if-deleted",), "Show what deleting all these would free.", parse_ids, "ID,ID…"),
    *UNITS,
    JSON,
    SUBVOLUME,
    *OPENING,
)
def du(targets: tuple[Target, ...], subvolume: int, as_json: bool, **options: Any) -> int:
    """Show what files use alone and what they share, as `btrfs filesystem du` counts.

    \b
      btrimg du -s disk.img
      btrimg du disk.img:/home disk.img:/srv --raw
      btrimg du --compression disk.img:/home
      btrimg du --subvolumes disk.img
      btrimg du --free-if-deleted 257,259 disk.img

    Total is what file extents take, without holes and inline data; of compressed extents, uncompressed. Exclusive is
    what lies in extents that no other file uses. Set shared is, of the rest, what the files of one argument use
    together, each byte counted once. Unreachable is what is allocated inside their extents, uncompressed ones, but is
    in no file any more. What deleting subvolumes frees is data only: whole extents that no other subvolume uses. All
    sizes are before RAID and DUP copies. What cannot be read is named in a warning and left out; the exit code is
    then 1.

    JSON, one object for each row, sizes in bytes. Files: "path", "subvolume", "inode", "type", "total", "exclusive",
    and of the arguments themselves "set_shared" and "unreachable". --compression: "path", "files", "extents",
    "references", "inline", and for each of "types" and as "total" the bytes "disk", "uncompressed" and "referenced".
    --subvolumes: "id", "path", "total", "exclusive", "set_shared", "unreachable", "free_if_deleted".
    --free-if-deleted: "subvolumes", "free_if_deleted".
    """
    from btrimg.cli.progress import counting
    from btrimg.tables.usage import Usage

    units = take_units(options)
    modes = {name: options.pop(name) for name in ("summarize", "unreachable", "compression", "subvolumes", "ids")}
    faults = False
    for _, group in groupby(targets, key=lambda target: target.devices):
        named = list(group)
        with open_target(named[0], **options) as image:
            found = [open_inode(image, target, subvolume) for target in named]
            tops = [inode for inode in found if inode.is_directory or inode.is_regular]
            with counting("reading file extents", "subvolumes") as progress:
                usage = Usage(image, progress)
            for line in _lines(usage, tops, units, as_json, **modes):
                sys.stdout.write(line + "\n")
            faults |= bool(image.faults)
    return 1 if faults else 0


def _lines(
    usage: Usage, tops: list[Inode], units: Units, as_json: bool, *, ids: list[int] | None, **modes: bool
) -> Iterator[str]:
    if ids is not None:
        yield _free_if_deleted(usage, ids, units, as_json)
    elif modes["subvolumes"]:
        yield from _subvolumes(usage, units, as_json)
    elif modes["compression"]:
        for top in tops:
            yield from _compression(usage, top, units, as_json)
    else:
        yield from _files(usage, tops, units, as_json, modes["summarize"], modes["unreachable"])


def _files(
    usage: Usage, tops: list[Inode], units: Units, as_json: bool, summarize: bool, unreachable: bool
) -> Iterator[str]:
    from btrimg.render import usage as render
    from btrimg.render.answers import json_line

    if not as_json:
        yield render.du_head(unreachable=unreachable)
    for top in tops:
        for row in _rows(usage, top, summarize):
            yield json_line(row._asdict()) if as_json else render.du_line(row, units.text, unreachable=unreachable)


def _rows(usage: Usage, top: Inode, summarize: bool) -> Iterator[UsageRow]:
    """Yield what lies below *top*, in the order of names, and last itself."""
    from btrimg.render.usage import UsageRow
    from btrimg.tables.usagetree import totals, tree_below

    tree = tree_below(usage, top)
    space = usage.space(tree.row_of_use >= 0)
    total, exclusive = (column.tolist() for column in totals(usage, tree))
    for row in [0] if summarize else _bottom_up(tree):
        yield UsageRow(
            path=tree.paths.decode(row).decode("utf-8", "surrogateescape"),
            subvolume=usage.subvolumes[tree.subvolume[row]],
            inode=int(tree.inode[row]),
            type="directory" if tree.directory[row] else "file",
            total=total[row],
            exclusive=exclusive[row],
            set_shared=space.set_shared if row == 0 else None,
            unreachable=space.unreachable if row == 0 else None,
        )


def _bottom_up(tree: Tree) -> list[int]:
    """Return the rows in the order of their names, a directory behind what it holds."""
    last = b"\0" + b"\xff" * 256  # behind every name, of which none has more than 255 bytes
    keys = [path.rstrip(b"/").replace(b"/", b"\0") for path in tree.paths.to_list()]
    behind = [key + last if directory else key for key, directory in zip(keys, tree.directory.tolist(), strict=True)]
    return sorted(range(len(behind)), key=behind.__getitem__)


def _compression(usage: Usage, top: Inode, units: Units, as_json: bool) -> Iterator[str]:
    from btrimg.render.answers import json_line
    from btrimg.render.usage import compression_lines
    from btrimg.tables.usagetree import compression_of, tree_below

    tree = tree_below(usage, top)
    found = compression_of(usage, tree)
    if as_json:
        types = {name: sums._asdict() for name, sums in found.types.items()}
        path = tree.paths.decode(0).decode("utf-8", "surrogateescape")
        yield json_line({"path": path} | found._asdict() | {"types": types, "total": found.total._asdict()})
    else:
        yield from compression_lines(found, units.text)


def _subvolumes(usage: Usage, units: Units, as_json: bool) -> Iterator[str]:
    from btrimg.render.answers import json_line
    from btrimg.render.usage import subvolume_lines

    rows = list(_subvolume_rows(usage))
    yield from (json_line(row._asdict()) for row in rows) if as_json else subvolume_lines(rows, units.text)


def _subvolume_rows(usage: Usage) -> Iterator[SubvolumeRow]:
    from btrimg.render.usage import SubvolumeRow

    for number, freed in enumerate(usage.freed_by_each().tolist()):
        path = usage.census.path_of(number)
        name = None if path is None else (path or b"/").decode("utf-8", "surrogateescape")
        space = usage.space(usage.uses.subvolume == number)
        yield SubvolumeRow(usage.subvolumes[number], name, *space, freed)


def _free_if_deleted(usage: Usage, ids: list[int], units: Units, as_json: bool) -> str:
    from btrimg.render.answers import json_line

    for unknown in set(ids) - set(usage.subvolumes):
        raise NotFoundError(f"there is no subvolume {unknown}")
    freed = usage.freed_by(ids)
    if as_json:
        return json_line({"subvolumes": ids, "free_if_deleted": freed})
    return f"{units.text(freed)} of data"
