"""What files, types of compression and subvolumes use, in the layouts of ``btrfs filesystem du`` and compsize."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from btrimg.render.text import printable, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.tables.usagetree import Compressed, Compression

    Size = Callable[[int], str]


class UsageRow(NamedTuple):
    """A file or directory; sizes in bytes. Its fields are those of the JSON."""

    path: str
    subvolume: int
    inode: int
    type: str  #: file or directory
    total: int
    exclusive: int
    set_shared: int | None  #: of what the command was asked for, not of what lies below
    unreachable: int | None  #: likewise


class SubvolumeRow(NamedTuple):
    """A subvolume; sizes in bytes. Its fields are those of the JSON."""

    id: int
    path: str | None
    total: int
    exclusive: int
    set_shared: int
    unreachable: int
    free_if_deleted: int


def du_head(*, unreachable: bool) -> str:
    """Return the line above the rows of ``du``."""
    return _du_line("Total", "Exclusive", "Set shared", *(["Unreachable"] if unreachable else []), "Filename")


def du_line(row: UsageRow, size: Size, *, unreachable: bool) -> str:
    """Return the line of one file or directory."""
    more = [row.unreachable] if unreachable else []
    asked = ("-" if count is None else size(count) for count in (row.set_shared, *more))
    return _du_line(
        size(row.total), size(row.exclusive), *asked, printable(row.path.encode("utf-8", "surrogateescape"))
    )


def _du_line(*cells: str) -> str:
    return "".join(f"{cell:>10}  " for cell in cells[:-1]) + cells[-1]


def compression_lines(found: Compression, size: Size) -> Iterator[str]:
    """Yield the lines of compsize."""
    files, extents, refs = found.files, found.extents, found.references
    if not found.types:
        yield "All empty or still-delalloced files." if files else "No files."
        return
    yield (
        f"Processed {files} {_plural(files, 'file')}, {extents} regular {_plural(extents, 'extent')} "
        f"({refs} {_plural(refs, 'ref')}), {found.inline} inline."
    )
    yield _compression_line("Type", "Perc", "Disk Usage", "Uncompressed", "Referenced")
    for name, sums in (("TOTAL", found.total), *found.types.items()):
        yield _compression_line(name, percent(sums), *map(size, sums))


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else noun + "s"


def _compression_line(*cells: str) -> str:
    return "{:<10} {:<8} {:<12} {:<12} {:<12}".format(*cells).rstrip()


def percent(sums: Compressed) -> str:
    """Return how much of the uncompressed size is used on disk, rounded down."""
    return f"{sums.disk * 100 // sums.uncompressed}%" if sums.uncompressed else "-"


def subvolume_lines(rows: Iterable[SubvolumeRow], size: Size) -> Iterator[str]:
    """Yield the lines of ``du --subvolumes``."""
    header = ("ID", "Total", "Exclusive", "Set shared", "Unreachable", "If deleted", "Path")
    cells = (
        (
            row.id,
            *map(size, row[2:]),
            "-" if row.path is None else printable(row.path.encode("utf-8", "surrogateescape")),
        )
        for row in rows
    )
    return table(header, cells, left=frozenset({6}))
