"""Rows of ``extents`` as JSON: rows that look alike share a ``%`` template, five times as fast as ``json.dumps``.

What a row holds is said here once, for the answers about one file and for the columns of a whole image.
"""

from __future__ import annotations

from functools import cache
from json.encoder import encode_basestring_ascii

from btrimg.filesystem.extents import COMPRESSION_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.filesystem.translate import Copy


@cache
def template(kind: str, compression: str, copies: int, counted: bool) -> tuple[str, tuple[str, ...]]:
    """Return the template of rows that have these in common, and the names of the cells that fill it in.

    *copies* is their number, *counted* whether the number of references is known. Of each copy the cells are what
    stands ``before`` and ``after`` its ``physical`` (see :func:`around_physical`), numbered from 0.
    """
    row = '{"subvolume": %d, "inode": %d, "path": %s, "offset": %d, "length": %d, '
    row += f'"kind": "{kind}", "compression": "{compression}", '
    names: tuple[str, ...] = ("subvolume", "inode", "path", "offset", "length")
    if kind in ("inline", "hole"):
        return row + '"logical": null, "extent": null, "copies": [], "refs": null}\n', names
    row += '"logical": %d, "extent": {"logical": %d, "length": %d, "offset": %d, "ram_bytes": %d, "generation": %d}, '
    names += ("logical", "extent_logical", "extent_length", "extent_offset", "ram_bytes", "generation")
    roles = ["data"] if copies == 1 else [f"mirror {copy + 1}" for copy in range(copies)]
    row += '"copies": [' + ", ".join(f'%s%d%s"role": "{role}"}}' for role in roles) + "], "
    names += tuple(f"{part}{copy}" for copy in range(copies) for part in ("before", "physical", "after"))
    if counted:
        return row + '"refs": %d}\n', (*names, "refs")
    return row + '"refs": null}\n', names


def text(name: bytes) -> str:
    """Return a path as a JSON string; bytes that are not UTF-8 stand as surrogate escapes."""
    return encode_basestring_ascii(name.decode("utf-8", "surrogateescape"))


@cache
def around_physical(devid: int, device: str | None) -> tuple[str, str]:
    """Return what stands before and after the physical address of a copy; *device* is None when it is missing."""
    path = encode_basestring_ascii(device) if device is not None else "null"
    return f'{{"devid": {devid}, "physical": ', f', "device": {path}, '


def lines(inode: Inode, rows: Iterable[tuple[FileExtentRow, Sequence[Copy], int | None]]) -> Iterator[str]:
    """Yield the lines of the extents of one file; each row comes with its copies and its number of references."""
    head = (inode.subvolume.id, inode.ino, text(inode.path))
    for row, copies, refs in rows:
        form, _ = template(row.kind, COMPRESSION_NAMES[row.compression], len(copies), refs is not None)
        cells: list[int | str | None] = [*head, row.offset, row.length]
        if row.extent is not None:
            cells += (row.logical, *row.extent)
            for copy in copies:
                before, after = around_physical(copy.devid, copy.device)
                cells += (before, copy.physical, after)
            cells += () if refs is None else (refs,)
        yield form % tuple(cells)
