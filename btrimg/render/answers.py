"""Answers about files: as JSON with the stable field names of docs/cli.md, and as text."""

from __future__ import annotations

from btrimg.filesystem.extents import COMPRESSION_NAMES
from btrimg.render.text import printable, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from btrimg.filesystem.extents import ExtentRef, FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.filesystem.translate import Copy, Resolution


def json_line(value: Any) -> str:
    """Return *value* on one line; bytes that are not UTF-8 stand as surrogate escapes (``\\udcXX``)."""
    from json import dumps  # imports re, and takes 6 ms

    return dumps(value)


def name(value: bytes) -> str:
    """Return a name or path as text."""
    return value.decode("utf-8", "surrogateescape")


def _extent(extent: ExtentRef | None) -> dict[str, int] | None:
    return None if extent is None else extent._asdict()


def _copies(copies: Sequence[Copy]) -> list[dict[str, Any]]:
    return [copy._asdict() for copy in copies]


def resolution(answer: Resolution) -> dict[str, Any]:
    """Return what ``resolve`` found."""
    return {
        "path": name(answer.path),
        "subvolume": answer.subvolume,
        "inode": answer.inode,
        "offset": answer.offset,
        "kind": answer.kind,
        "compression": answer.compression,
        "extent": _extent(answer.extent),
        "logical": answer.logical,
        "length": answer.length,
        "copies": _copies(answer.copies),
        "parity": _copies(answer.parity),
        "csum": answer.csum.hex() if answer.csum is not None else None,
        "shareable": answer.shareable,
        "refusal": answer.refusal,
    }


def resolution_text(answer: Resolution) -> str:
    """Return what ``resolve`` found for a person."""
    kind = answer.kind if answer.kind != "compressed" else f"compressed ({answer.compression})"
    facts: list[tuple[str, object]] = [
        ("file", f"{printable(answer.path)} (inode {answer.inode}, subvolume {answer.subvolume})"),
        ("offset", answer.offset),
        ("kind", kind),
        ("contiguous", f"{answer.length} bytes"),
    ]
    if answer.extent is not None:
        extent = answer.extent
        facts += [
            ("logical", answer.logical),
            ("extent", f"{extent.logical}, {extent.length} bytes, generation {extent.generation}"),
        ]
    if answer.csum is not None:
        facts.append(("checksum", answer.csum.hex()))
    facts.append(("shareable", "yes" if answer.shareable else f"no: {answer.refusal}"))
    lines = [f"{label + ':':<12} {value}" for label, value in facts]
    places = [*answer.copies, *answer.parity]
    if places:
        rows = [(p.devid, p.physical, p.role, p.device or "missing") for p in places]
        lines += ["", *table(("devid", "physical", "role", "device"), rows, left=frozenset({2, 3}))]
    return "\n".join(lines)


def extents_text(inode: Inode, rows: Sequence[tuple[FileExtentRow, Sequence[Copy], int | None]]) -> str:
    """Return the extents of one file for a person: its path, then a table."""
    header = ("offset", "length", "kind", "logical", "refs", "copies")
    cells = (
        (
            row.offset,
            row.length,
            COMPRESSION_NAMES[row.compression] if row.compression else row.kind,
            "-" if row.logical is None else row.logical,
            "-" if refs is None else refs,
            " ".join(f"{copy.devid}:{copy.physical}" for copy in copies) or "-",
        )
        for row, copies, refs in rows
    )
    title = f"{printable(inode.path)} (inode {inode.ino}, subvolume {inode.subvolume.id})"
    return "\n".join([title, *table(header, cells, left=frozenset({2, 5}))])
