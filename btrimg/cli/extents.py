"""``btrimg extents``: what files are made of."""

from __future__ import annotations

import sys

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, TOP_LEVEL, open_inode, open_target
from btrimg.errors import BtrimgError, CorruptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode


@command(
    TARGET,
    Option("holes", ("--holes",), "Show holes that have no item, too."),
    Option("pieces", ("--pieces",), "Split rows so that each is contiguous on every copy."),
    JSON,
    SUBVOLUME,
    *OPENING,
)
def extents(target: Target, holes: bool, pieces: bool, as_json: bool, subvolume: int, **opening: Any) -> int:
    """List file extents: of a file, of all files below a directory, or without PATH of every subvolume.

    \b
      btrimg extents disk.img:/var/lib/a.db
      btrimg extents disk.img --json > extents.jsonl
      btrimg extents disk.img:/home --holes --pieces

    One row for each file extent item. "copies" is where the first byte of the row lies, "refs" how many file extents
    use the extent. What cannot be read is named in a warning and skipped; the exit code is then 1.
    """
    with open_target(target, **opening) as image:
        if target.path is None and subvolume == TOP_LEVEL:
            _write_all(image, holes=holes, pieces=pieces, as_json=as_json)
        else:
            _write_some(open_inode(image, target, subvolume), holes=holes, pieces=pieces, as_json=as_json)
        return 1 if image.faults else 0


def _write_all(image: Image, *, holes: bool, pieces: bool, as_json: bool) -> None:
    """Write the extents of the whole image, by the bulk path, subvolume by subvolume; a table for each."""
    from btrimg.cli.progress import counting
    from btrimg.filesystem.census import extents_by_subvolume
    from btrimg.render import extent_lines

    write = extent_lines.json_chunks if as_json else extent_lines.text_chunks
    with counting("listing extents", "subvolumes", printing=True) as progress:
        for columns in extents_by_subvolume(image, holes=holes, pieces=pieces):
            for chunk in write(columns, image) if columns.rows else ():
                sys.stdout.buffer.write(chunk)
            progress(int(columns.rows > 0), int(columns.length.sum()))
    sys.stdout.buffer.flush()


def _write_some(top: Inode, *, holes: bool, pieces: bool, as_json: bool) -> None:
    """Write the extents of one file or of the files below a directory, by the point path."""
    from btrimg.render import answers, extent_json

    for inode in _files(top):
        try:
            rows = list(inode.extents(holes=holes, pieces=pieces))
            placed = [(row, *_where(inode.image, row)) for row in rows]
            if as_json and rows:
                sys.stdout.write("".join(extent_json.lines(inode, placed)))
            elif rows:
                print(answers.extents_text(inode, placed))
        except BtrimgError as error:
            inode.image.report(CorruptError(f"{inode.quoted}: {error}"))


def _files(top: Inode) -> Iterator[Inode]:
    from btrimg.filesystem.walk import walk

    if top.is_directory:
        return (inode for inode in walk(top) if _is_regular(inode))
    return iter([top])


def _is_regular(inode: Inode) -> bool:
    try:
        return inode.is_regular
    except CorruptError:
        return False  # the walk has reported it


def _where(image: Image, row: FileExtentRow) -> tuple[tuple[Any, ...], int | None]:
    """Return the copies of the row's first byte, and the number of references of its extent."""
    from btrimg.filesystem.extents import reference_count
    from btrimg.filesystem.translate import copies_at

    if row.extent is None or row.logical is None:
        return (), None
    return copies_at(image, row.logical)[0], reference_count(image, row.extent)
