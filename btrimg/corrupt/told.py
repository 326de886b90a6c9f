"""What stands in a place of the disk, and what became of it: told to whoever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record


class Reading(NamedTuple):
    """What stands in a place."""

    target: str  #: its name, by which it can be set
    key: Key | None = None  #: of an item
    size: int | None = None  #: of its payload
    block: int | None = None  #: logical address of the tree block it stands in, None before there is one
    records: tuple[tuple[str, Record], ...] = ()  #: each with what stands before the names of its fields
    tail: bytes = b""  #: what follows them
    fields: tuple[tuple[str, int | bytes], ...] = ()  #: those that were asked for, as numbers and bytes


class Change(NamedTuple):
    """What became of a field, or of a whole item."""

    target: str
    before: int | bytes | None  #: None where there was no such item
    after: int | bytes | None  #: None where there is none any more
