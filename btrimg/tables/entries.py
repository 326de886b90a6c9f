"""Payloads that hold several structures one after the other, taken apart without a loop over items.

The first structures of all payloads are found at once, then the second ones of those that have more, and so on: as
many rounds as the fullest payload has structures, each over fewer items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from btrimg.errors import CorruptError
    from btrimg.ondisk.record import Record
    from btrimg.trees.scan import LeafBatch

    Report = Callable[[CorruptError], None]
    Ints = NDArray[np.int64]
    SizeOf = Callable[[LeafBatch], Ints]
    Rows = tuple[LeafBatch, dict[str, NDArray[Any]]]  # an item for each row, and the columns


def split(items: LeafBatch, size_of: SizeOf, bad: Report) -> LeafBatch:
    """Return an item for each structure in the payloads of *items*, in order, with its own position and size.

    *size_of* says how large the structures at the start of some payloads are, at least 1 byte; 0 or more than the
    payload has is a structure cut short, which is told to *bad* with what follows it in the item left out.
    """
    number = np.flatnonzero(items.size > 0)
    position, left = items.position[number], items.size[number]
    numbers, positions, sizes = [number[:0]], [position[:0]], [left[:0]]
    while len(number):
        size = size_of(items.take(number)._replace(position=position, size=left))
        whole = (size > 0) & (size <= left)
        for item in number[~whole].tolist():
            bad(items.error(item, f"its {items.size[item]} bytes end inside a structure"))
        number, position, size, left = number[whole], position[whole], size[whole], left[whole]
        numbers.append(number)
        positions.append(position)
        sizes.append(size)
        more = left > size
        number, position, left = number[more], (position + size)[more], (left - size)[more]
    found = np.concatenate(numbers)
    order = np.argsort(found, kind="stable")
    return items.take(found[order])._replace(
        position=np.concatenate(positions)[order], size=np.concatenate(sizes)[order]
    )


def size_by_fields(record: type[Record], *lengths: str) -> SizeOf:
    """Return the *size_of* of a *record* that varies in length; the fields *lengths* count the bytes behind it."""

    def size_of(items: LeafBatch) -> Ints:
        size = np.zeros(len(items.size), np.int64)
        room = np.flatnonzero(items.size >= record.SIZE)
        heads = items.take(room).records(record)
        size[room] = record.SIZE + sum(heads[name].astype(np.int64) for name in lengths)
        return size

    return size_of


def sound(items: LeafBatch, least: int | Ints, bad: Report) -> LeafBatch:
    """Return the *items* whose payload has at least *least* bytes, one number for all or each; tell *bad* of others."""
    whole = items.size >= least
    if whole.all():
        return items
    each = np.broadcast_to(least, len(whole))
    for item in np.flatnonzero(~whole).tolist():
        bad(items.error(item, f"its {items.size[item]} bytes are fewer than {each[item]}"))
    return items.take(whole)


def merged(parts: Sequence[Rows]) -> Rows:
    """Return the rows of *parts*, all made of one batch, leaf by leaf."""
    items, columns = parts[0]
    leaf = np.concatenate([part.leaf for part, _ in parts])
    order = np.argsort(leaf, kind="stable")
    joined = (np.concatenate(column)[order] for column in zip(*(part.columns for part, _ in parts), strict=True))
    return items.with_columns(joined), {
        name: np.concatenate([more[name] for _, more in parts])[order] for name in columns
    }
