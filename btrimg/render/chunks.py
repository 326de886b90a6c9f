"""Chunks stripe by stripe, as ``btrfs inspect-internal list-chunks`` (6.19) shows them, and as objects.

Two things differ from btrfs-progs, on purpose: the use of a chunk is right whichever tree holds the block groups
(btrfs-progs looks in the extent tree only and shows 0), and PEnd is where the stripe ends on its device (btrfs-progs
adds the chunk's logical length, which is too much for every striped profile).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from btrimg.named import NamedTuple
from btrimg.ondisk.constants import PROFILE_MASK, BlockGroup
from btrimg.render.names import profile_name
from btrimg.volume.profiles import PROFILES, data_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from btrimg.ondisk.chunks import Chunk

_HEADER = ("Devid", "PNumber", "Type/profile", "PStart", "Length", "PEnd", "LNumber", "LStart", "Usage%")

_TYPES: dict[int, str] = {
    BlockGroup.DATA: "Data",
    BlockGroup.SYSTEM: "System",
    BlockGroup.METADATA: "Metadata",
    BlockGroup.DATA | BlockGroup.METADATA: "Data+Metadata",
}
_TYPE_MASK = BlockGroup.DATA | BlockGroup.SYSTEM | BlockGroup.METADATA
_TYPE_ORDER = ("Data", "Metadata", "System")
_PROFILE_ORDER = ("single", "DUP", "RAID0", "RAID1", "RAID1C3", "RAID1C4", "RAID10", "RAID5", "RAID6")


class ChunkRow(NamedTuple):
    """One stripe of a chunk; addresses and lengths in bytes."""

    devid: int
    number: int  #: by physical start on its device, from 1
    type: str
    profile: str
    physical: int
    stripe_length: int  #: bytes on this device
    logical_number: int  #: by logical start among the stripes on its device, from 1
    logical: int
    length: int  #: logical bytes of the whole chunk
    used: int | None  #: logical bytes of the whole chunk in use; None when no block group says so

    @property
    def usage(self) -> float:
        """Return the use in per cent."""
        return (self.used or 0) / self.length * 100 if self.length else 0.0


def rows(chunks: Iterable[tuple[int, Chunk]], used: Mapping[int, int]) -> list[ChunkRow]:
    """Return a row for every stripe of *chunks* (logical start, chunk) by device and physical start.

    *used* gives the bytes in use by a chunk's logical start.
    """
    found: list[ChunkRow] = []
    on_device: dict[int, int] = defaultdict(int)
    for logical, chunk in sorted(chunks):
        profile = PROFILES.get(chunk.type & PROFILE_MASK)
        columns = max(1, data_columns(chunk.num_stripes, profile)) if profile else 1
        for stripe in chunk.stripes:
            on_device[stripe.devid] += 1
            found.append(
                ChunkRow(
                    stripe.devid,
                    0,
                    _TYPES.get(chunk.type & _TYPE_MASK, "unknown"),
                    profile_name(chunk.type & PROFILE_MASK),
                    stripe.offset,
                    chunk.length // columns,
                    on_device[stripe.devid],
                    logical,
                    chunk.length,
                    used.get(logical),
                )
            )
    found.sort(key=lambda row: (row.devid, row.physical))
    on_device.clear()
    for index, row in enumerate(found):
        on_device[row.devid] += 1
        found[index] = row._replace(number=on_device[row.devid])
    return found


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


#: What ``--sort`` takes.
SORT_KEYS: dict[str, Callable[[ChunkRow], Any]] = {
    "devid": lambda row: row.devid,
    "pstart": lambda row: row.physical,
    "lstart": lambda row: row.logical,
    "usage": lambda row: row.usage,
    "length": lambda row: row.length,
    "type": lambda row: _place(row.type, _TYPE_ORDER),
    "profile": lambda row: _place(row.profile, _PROFILE_ORDER),
}


def sort(found: list[ChunkRow], keys: Sequence[str]) -> None:
    """Sort rows by *keys* of SORT_KEYS, the first counting most; one after a ``-`` sorts downwards."""
    for key in reversed(keys):
        found.sort(key=SORT_KEYS[key.removeprefix("-")], reverse=key.startswith("-"))


def lines(found: Iterable[ChunkRow], size: Callable[[int], str]) -> Iterator[str]:
    """Yield the table; *size* makes the text of a number of bytes."""
    cells = [_HEADER, *(_cells(row, size) for row in found)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    for row in cells:
        yield " ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _cells(row: ChunkRow, size: Callable[[int], str]) -> tuple[str, ...]:
    return (
        str(row.devid),
        str(row.number),
        f"{row.type:>10}/{row.profile:<6}",
        size(row.physical),
        size(row.length),
        size(row.physical + row.stripe_length),
        str(row.logical_number),
        size(row.logical),
        "-" if row.used is None else f"{row.usage:6.2f}",
    )
