"""All file extents of an image as lines: JSON as of :mod:`extent_json`, or a table.

The rows of a slice that look alike (kind, compression, number of copies) share one ``%`` template, which ``map`` fills
in from the columns: no statement of Python runs per row.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem.columns import HOLE, INLINE, KINDS
from btrimg.filesystem.extents import COMPRESSION_NAMES
from btrimg.named import NamedTuple
from btrimg.render import extent_json
from btrimg.render.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.columns import ExtentColumns
    from btrimg.filesystem.image import Image

    Template = tuple[str, tuple[str, ...]]  # and the names of the cells that fill it in
    Cells = Callable[[ExtentColumns, str], NDArray[Any]]

SLICE = 1 << 14  #: rows formatted at a time, about 6 MiB of lines

_COMPRESSIONS = [COMPRESSION_NAMES[number] for number in sorted(COMPRESSION_NAMES)]


class Likeness(NamedTuple):
    """What rows must have in common to share a template."""

    kind: int
    compression: int
    copies: int
    counted: bool  #: whether the number of references is known


def json_chunks(columns: ExtentColumns, image: Image) -> Iterator[bytes]:
    """Yield the rows as JSONL, many lines at a time; the fields are those of docs/cli.md."""

    def cells(rows: ExtentColumns, name: str) -> NDArray[Any]:
        if name == "path":
            return _paths(rows, extent_json.text, "null")
        part, copy = name[:-1], int(name[-1])
        return _mapped(rows.devid[copy], lambda devid: around(devid, part))

    def around(devid: int, part: str) -> str:
        device = image.volume.devices.get(devid)
        before, after = extent_json.around_physical(devid, device.path if device else None)
        return before if part == "before" else after

    def template(like: Likeness) -> Template:
        return extent_json.template(KINDS[like.kind], _COMPRESSIONS[like.compression], like.copies, like.counted)

    return _chunks(columns, template, cells)


_NUMBERS = ("subvolume", "inode", "offset", "length", "logical", "refs")
_LEFT = ("kind", "copies")


def text_chunks(columns: ExtentColumns, image: Image) -> Iterator[bytes]:
    """Yield the rows as a table for people, many lines at a time; copies stand as devid:physical."""
    widths = {name: max(len(name), _digits(getattr(columns, name))) for name in _NUMBERS}
    widths["kind"] = max(map(len, KINDS))
    devid, physical = _digits(columns.devid), _digits(columns.physical)
    most = int(columns.copies.max(initial=0))
    widths["copies"] = max(len("copies"), most * (devid + 1 + physical) + most - 1)

    def cells(rows: ExtentColumns, name: str) -> NDArray[Any]:
        return _paths(rows, printable, "-") if name == "path" else rows.devid[int(name[-1])]

    def template(like: Likeness) -> Template:
        copies = " ".join([f"%{devid}d:%-{physical}d"] * like.copies) or "-"
        used = like.copies * (devid + 1 + physical) + like.copies - 1 if like.copies else 1
        found = like.kind not in (INLINE, HOLE)
        kind = _COMPRESSIONS[like.compression] if like.compression else KINDS[like.kind]
        shown = {
            **{name: f"%{widths[name]}d" for name in _NUMBERS},
            "kind": kind.ljust(widths["kind"]),
            "copies": copies + " " * (widths["copies"] - used),
        }
        names = ["subvolume", "inode", "offset", "length"]
        names += ["logical"] if found else []
        names += ["refs"] if found and like.counted else []
        for name in {"logical", "refs"}.difference(names):
            shown[name] = "-".rjust(widths[name])
        names += [f"{part}{copy}" for copy in range(like.copies) for part in ("devid", "physical")]
        return "  ".join(shown[name] for name in order) + "  %s\n", (*names, "path")

    order = ("subvolume", "inode", "offset", "length", "kind", "logical", "refs", "copies")
    head = [name.ljust(widths[name]) if name in _LEFT else name.rjust(widths[name]) for name in order]
    yield ("  ".join([*head, "path"]) + "\n").encode()
    yield from _chunks(columns, template, cells)


def _digits(column: NDArray[Any]) -> int:
    return len(str(column.max(initial=0)))


def _chunks(columns: ExtentColumns, template: Callable[[Likeness], Template], cells: Cells) -> Iterator[bytes]:
    """Yield the lines of all rows; *cells* gives the cells of a slice that are no column."""
    template = cache(template)
    for start in range(0, columns.rows, SLICE):
        rows = columns.take(slice(start, start + SLICE))
        known: dict[str, NDArray[Any]] = {**rows._asdict()}
        known |= {f"physical{copy}": rows.physical[copy] for copy in range(len(rows.physical))}
        del known["path"]
        lines = np.empty(rows.rows, object)
        for like, here in _alike(rows):
            form, names = template(like)
            for name in names:
                if name not in known:
                    known[name] = cells(rows, name)
            lines[here] = list(map(form.__mod__, zip(*(known[name][here].tolist() for name in names), strict=True)))
        yield "".join(lines.tolist()).encode("utf-8")


def _alike(rows: ExtentColumns) -> Iterator[tuple[Likeness, NDArray[np.intp]]]:
    """Yield the likenesses of *rows* and which rows have each."""
    code = rows.kind.astype(np.int64)
    for column in (rows.compression, rows.copies, rows.refs > 0):
        code = code << 8 | column
    _, first, number = np.unique(code, return_index=True, return_inverse=True)
    for group, row in enumerate(first.tolist()):
        like = Likeness(
            int(rows.kind[row]), int(rows.compression[row]), int(rows.copies[row]), bool(rows.refs[row] > 0)
        )
        yield like, np.flatnonzero(number == group)


def _paths(rows: ExtentColumns, text: Callable[[bytes], str], missing: str) -> NDArray[Any]:
    """Return the path of every row by *text*, which is called once per file, or *missing*."""
    return _mapped(rows.path, lambda number: text(rows.paths.decode(number)) if number >= 0 else missing)


def _mapped(column: NDArray[Any], text: Callable[[int], str]) -> NDArray[Any]:
    """Return ``text(value)`` for every value of *column*, called once per different value."""
    values, number = np.unique(column, return_inverse=True)
    texts = np.empty(len(values), object)
    texts[:] = list(map(text, values.tolist()))
    return texts[number]
