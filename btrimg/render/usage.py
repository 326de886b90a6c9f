"""What files, types of compression and subvolumes use, in the layouts of ``btrfs filesystem du`` and compsize.

Files come many at a time, as columns: their lines are put together column by column, without a loop over them.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import strings
from btrimg.named import NamedTuple
from btrimg.render.text import printable, table
from btrimg.trees.distinct import different

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.strings import Strings
    from btrimg.tables.usagetree import Compressed, Compression, Section

    Size = Callable[[int], str]

SLICE = 1 << 16  #: rows formatted at a time, about 8 MiB of lines


class UsageRow(NamedTuple):
    """What the command was asked for; sizes in bytes. Its fields are those of the JSON, of what lies below it too."""

    path: str
    subvolume: int
    inode: int
    type: str  #: file or directory
    total: int
    exclusive: int
    set_shared: int | None  #: null in the JSON of what lies below
    unreachable: int | None  #: likewise


class SubvolumeRow(NamedTuple):
    """A subvolume; sizes in bytes. Its fields are those of the JSON."""

    id: int
    path: str | None
    total: int
    exclusive: int
    set_shared: int
    unreachable: int
    free_data_if_deleted: int
    free_metadata_if_deleted: int


def printable_names(names: Strings) -> Strings:
    """Return *names* as ``printable`` does."""
    return _changed(names, _PLAIN_TEXT, lambda name: printable(name).encode())


def json_names(names: Strings) -> Strings:
    """Return *names* as they stand inside JSON strings."""
    return _changed(names, _PLAIN_JSON, lambda name: _json_text(name)[1:-1].encode())


def _json_text(name: bytes) -> str:
    return encode_basestring_ascii(name.decode("utf-8", "surrogateescape"))


_PLAIN_TEXT = np.array([0x20 <= byte < 0x7F and byte != ord("\\") for byte in range(256)])
_PLAIN_JSON = _PLAIN_TEXT & (np.arange(256) != ord('"'))


def _changed(names: Strings, plain: NDArray[np.bool_], change: Callable[[bytes], bytes]) -> Strings:
    """Return *names* with those *change*\\ d that have other bytes than *plain* ones: few, mostly."""
    other = np.flatnonzero(~plain[names.data])
    if not len(other):
        return names
    number = different(np.searchsorted(names.offsets, other, "right") - 1)
    changed = strings.of_list([change(names.decode(each)) for each in number.tolist()])
    index = np.arange(names.rows)
    index[number] = names.rows + np.arange(changed.rows)
    return strings.glue((strings.concatenate([names, changed]), index))


def du_head(*, unreachable: bool) -> str:
    """Return the line above the rows of ``du``."""
    return _du_line("Total", "Exclusive", "Set shared", *(["Unreachable"] if unreachable else []), "Filename")


def du_line(row: UsageRow, size: Size, *, unreachable: bool) -> str:
    """Return the line of what the command was asked for."""
    sizes = (row.total, row.exclusive, row.set_shared or 0, *([row.unreachable or 0] if unreachable else []))
    return _du_line(*map(size, sizes), printable(row.path.encode("utf-8", "surrogateescape")))


def _du_line(*cells: str) -> str:
    return "".join(f"{cell:>10}  " for cell in cells[:-1]) + cells[-1]


def text_chunks(section: Section, size: Size, *, unreachable: bool) -> Iterator[bytes]:
    """Yield the lines of what lies below it, as ``du_line``; names in *section* are printable ones."""

    def cell(count: int) -> bytes:
        return f"{size(count):>10}  ".encode()

    for some in _slices(section):
        total, exclusive = (_mapped(column[some], cell) for column in (section.total, section.exclusive))
        unknown = _du_line("-", *(["-"] if unreachable else []), "").encode()
        yield strings.glue(total, exclusive, unknown, *_path(section, some), b"\n").data.tobytes()


def json_chunks(section: Section) -> Iterator[bytes]:
    """Yield the rows of what lies below it as JSONL, with the fields of ``UsageRow``; names are ``json_names``."""
    for some in _slices(section):
        kind = strings.of_list([b"file", b"directory"]), section.directory[some].astype(np.intp)
        yield strings.glue(
            b'{"path": "',
            *_path(section, some),
            b'", "subvolume": ',
            _mapped(section.subvolume[some], b"%d".__mod__),
            b', "inode": ',
            _mapped(section.inode[some], b"%d".__mod__),
            b', "type": "',
            kind,
            b'", "total": ',
            _mapped(section.total[some], b"%d".__mod__),
            b', "exclusive": ',
            _mapped(section.exclusive[some], b"%d".__mod__),
            b', "set_shared": null, "unreachable": null}\n',
        ).data.tobytes()


def _slices(section: Section) -> Iterator[slice]:
    return (slice(start, start + SLICE) for start in range(0, len(section.inode), SLICE))


def _path(section: Section, some: slice) -> tuple[tuple[Strings, NDArray[Any]] | bytes, ...]:
    return (section.directories, section.above[some]), b"/", (section.names, section.name[some])


def _mapped(column: NDArray[Any], text: Callable[[int], bytes]) -> tuple[Strings, NDArray[Any]]:
    """Return ``text(value)`` for every value of *column*, called once per different value."""
    values, number = np.unique(column, return_inverse=True)
    return strings.of_list(list(map(text, values.tolist()))), number


def compression_lines(found: Compression, size: Size) -> Iterator[str]:
    """Yield the lines of compsize, with its blanks at their ends."""
    files, extents, refs = found.files, found.extents, found.references
    if not found.types:
        yield "All empty or still-delalloced files." if files else "No files."
        return
    yield (
        f"Processed {files} {_plural(files, 'file')}, {extents} regular extents ({refs} refs), {found.inline} inline."
    )
    yield _compression_line("Type", "Perc", "Disk Usage", "Uncompressed", "Referenced")
    for name, sums in (("TOTAL", found.total), *found.types.items()):
        yield _compression_line(name, _percent(sums), *map(size, sums))


def compression_object(found: Compression) -> dict[str, Any]:
    """Return the numbers of compsize for JSON."""
    types = {name: sums._asdict() for name, sums in found.types.items()}
    return found._asdict() | {"types": types, "total": found.total._asdict()}


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else noun + "s"


def _compression_line(*cells: str) -> str:
    return "{:<10} {:<8} {:<12} {:<12} {:<12}".format(*cells)


def _percent(sums: Compressed) -> str:
    """Return how much of the uncompressed size is used on disk, rounded down."""
    return f"{sums.disk * 100 // sums.uncompressed:3}%" if sums.uncompressed else "-"


def subvolume_lines(rows: Iterable[SubvolumeRow], size: Size) -> Iterator[str]:
    """Yield the lines of ``du --subvolumes``."""
    header = ("ID", "Total", "Exclusive", "Set shared", "Unreachable", "Data freed", "Metadata freed", "Path")
    cells = (
        (
            row.id,
            *map(size, row[2:]),
            "-" if row.path is None else printable(row.path.encode("utf-8", "surrogateescape")),
        )
        for row in rows
    )
    return table(header, cells, left=frozenset({7}))
