"""``btrimg du``: who uses how much."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target, parse_subvolume
from btrimg.cli.unit_options import UNITS, take_units
from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.inode import Inode
    from btrimg.render.sizes import Units
    from btrimg.render.usage import SubvolumeRow
    from btrimg.tables.usage import Usage


def parse_ids(text: str) -> list[int]:
    """Return ids of subvolumes, separated by commas; raise ValueError with a sentence."""
    return [parse_subvolume(word) for word in text.split(",")]


@command(
    TARGET._replace(name="targets", many=True),
    Option("summarize", ("-s", "--summarize"), "Show only a total for each argument."),
    Option("unreachable", ("-u", "--unreachable"), "Show what no file extent reaches inside the extents used."),
    Option("compression", ("-c", "--compression"), "Show as well what each type of compression takes, as compsize."),
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
      btrimg du -s --compression disk.img:/home
      btrimg du --subvolumes disk.img
      btrimg du --free-if-deleted 257,259 disk.img

    Files and directories come in the order of `btrfs filesystem du`: that of readdir, and a directory behind what it
    holds. Total is what file extents take, without holes and inline data; of compressed extents, uncompressed.
    Exclusive is what lies in extents that no other file uses. Set shared is, of the rest, what the files of one
    argument use together, each byte counted once. Unreachable is what is allocated inside their extents, uncompressed
    ones, but is in no file any more. What deleting subvolumes frees is extents that no other subvolume uses, and tree
    blocks that are part of no other; not counted is by what the trees of extents and checksums shrink. All sizes are
    before RAID and DUP copies. What cannot be read is named in a warning and left out; the exit code is then 1.

    JSON, one object for each row, sizes in bytes. Files: "path", "subvolume", "inode", "type", "total", "exclusive",
    and of the arguments themselves "set_shared" and "unreachable", which come last. With --compression those have
    "compression": "files", "extents", "references", "inline", and for each of "types" and as "total" the bytes "disk",
    "uncompressed" and "referenced". --subvolumes: "id", "path", "total", "exclusive", "set_shared", "unreachable",
    "free_data_if_deleted", "free_metadata_if_deleted". --free-if-deleted: "subvolumes", and the last two.
    """
    from btrimg.cli.progress import counting
    from btrimg.render.usage import json_names, printable_names
    from btrimg.tables.usage import Usage

    units = take_units(options)
    names = ("summarize", "unreachable", "compression", "subvolumes", "ids")
    shown = _Shown(units, as_json, *(options.pop(name) for name in names))
    text = json_names if as_json else printable_names
    faults = False
    for _, group in groupby(targets, key=lambda target: target.devices):
        named = list(group)
        with open_target(named[0], **options) as image:
            found = [open_inode(image, target, subvolume) for target in named]
            tops = [inode for inode in found if inode.is_directory or inode.is_regular]
            with counting("reading file extents", "subvolumes") as progress:
                usage = Usage(image, progress, named=shown.lists, text=text)
            for chunk in _chunks(usage, tops, shown):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            faults |= bool(image.faults)
    return 1 if faults else 0


class _Shown(NamedTuple):
    """What the options ask for."""

    units: Units
    as_json: bool
    summarize: bool
    unreachable: bool
    compression: bool
    subvolumes: bool
    ids: list[int] | None

    @property
    def lists(self) -> bool:
        """Return whether every file shall be shown."""
        return not (self.summarize or self.subvolumes or self.ids is not None)


def _chunks(usage: Usage, tops: list[Inode], shown: _Shown) -> Iterator[bytes]:
    if shown.ids is not None:
        yield _line(_free_if_deleted(usage, shown.ids, shown))
    elif shown.subvolumes:
        yield from map(_line, _subvolumes(usage, shown))
    else:
        yield from _files(usage, tops, shown)


def _line(text: str) -> bytes:
    return (text + "\n").encode("utf-8")


def _files(usage: Usage, tops: list[Inode], shown: _Shown) -> Iterator[bytes]:
    """Yield the lines of what lies below each of *tops*, then its own, and what compsize says of it."""
    from btrimg.render import usage as render
    from btrimg.render.answers import json_line
    from btrimg.tables.usage import Tally
    from btrimg.tables.usagetree import CompressionTally, path_of, walk

    if not shown.as_json:
        yield _line(render.du_head(unreachable=shown.unreachable))
    for top in tops:
        tally, compression = Tally(usage), CompressionTally(usage)
        for section in walk(usage, top):
            tally.add(section.fresh)
            if shown.compression:
                compression.add(section)
            if shown.lists and shown.as_json:
                yield from render.json_chunks(section)
            elif shown.lists:
                yield from render.text_chunks(section, shown.units.text, unreachable=shown.unreachable)
        space, found = tally.space(), compression.compression()
        row = render.UsageRow(
            path=(path_of(usage, top) or b"/").decode("utf-8", "surrogateescape"),
            subvolume=top.subvolume.id,
            inode=top.ino,
            type="directory" if top.is_directory else "file",
            total=space.total,
            exclusive=space.exclusive,
            set_shared=space.set_shared if top.is_directory else space.total - space.exclusive,
            unreachable=space.unreachable,
        )
        if shown.as_json:
            more = {"compression": render.compression_object(found)} if shown.compression else {}
            yield _line(json_line(row._asdict() | more))
            continue
        yield _line(render.du_line(row, shown.units.text, unreachable=shown.unreachable))
        if shown.compression:
            yield from map(_line, ("", *render.compression_lines(found, shown.units.text)))


def _subvolumes(usage: Usage, shown: _Shown) -> Iterator[str]:
    from btrimg.render.answers import json_line
    from btrimg.render.usage import subvolume_lines

    rows = list(_subvolume_rows(usage))
    yield from (json_line(row._asdict()) for row in rows) if shown.as_json else subvolume_lines(rows, shown.units.text)


def _subvolume_rows(usage: Usage) -> Iterator[SubvolumeRow]:
    from btrimg.render.usage import SubvolumeRow

    for number, freed in enumerate(usage.freed_by_each()):
        path = usage.trees.path_of(number)
        name = None if path is None else (path or b"/").decode("utf-8", "surrogateescape")
        yield SubvolumeRow(usage.ids[number], name, *usage.space_of(number), *freed)


def _free_if_deleted(usage: Usage, ids: list[int], shown: _Shown) -> str:
    from btrimg.render.answers import json_line

    for unknown in set(ids) - set(usage.ids):
        raise NotFoundError(f"there is no subvolume {unknown}")
    freed = usage.freed_by(ids)
    if shown.as_json:
        free = {"free_data_if_deleted": freed.data, "free_metadata_if_deleted": freed.metadata}
        return json_line({"subvolumes": ids, **free})
    return f"{shown.units.text(freed.data)} of data, {shown.units.text(freed.metadata)} of metadata"
