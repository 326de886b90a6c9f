"""Payloads that hold several structures one after the other, taken apart without a loop over items.

The first structures of all payloads are found at once, then the second ones of those that have more, and so on, each
round over fewer items; of the few that have many structures, all of one are found at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.named import NamedTuple
from btrimg.trees.batches import records_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from btrimg.errors import CorruptError
    from btrimg.ondisk.record import Record
    from btrimg.trees.batches import Structs
    from btrimg.trees.leafbatch import LeafBatch

    Report = Callable[[CorruptError], None]
    Ints = NDArray[np.int64]
    SizeOf = Callable[[NDArray[np.uint8], Ints, Ints], Ints]  # of data, at position, where that many bytes are left
    Rows = tuple[LeafBatch, dict[str, NDArray[Any]]]  # an item for each row, and the columns


_ROUNDS, _FEW = 4, 8  # after so many rounds, so few payloads are looked at one by one


class Pieces(NamedTuple):
    """The structures in some payloads, in order."""

    number: Ints  #: of the payload
    position: Ints
    size: Ints
    cut: Ints  #: numbers of the payloads that end inside a structure, which is left out


def pieces(data: NDArray[np.uint8], position: Ints, left: Ints, size_of: SizeOf) -> Pieces:
    """Return the structures in the payloads of *left* bytes at *position* of *data*.

    *size_of* says how large the structures at the start of some payloads are, at least 1 byte; 0 or more than the
    payload has is a structure cut short.
    """
    number = np.flatnonzero(left > 0)
    if len(number) < len(left):
        position, left = position[number], left[number]
    numbers, positions, sizes, cut = [number[:0]], [position[:0]], [left[:0]], [number[:0]]
    while len(number) > _FEW or (len(numbers) <= _ROUNDS and len(number)):
        size = size_of(data, position, left)
        whole = (size > 0) & (size <= left)
        if not whole.all():
            cut.append(number[~whole])
            number, position, size, left = number[whole], position[whole], size[whole], left[whole]
        numbers.append(number)
        positions.append(position)
        sizes.append(size)
        more = np.flatnonzero(left > size)
        if not len(more) and len(numbers) == 2:  # one in each, as in nearly all: they are in order
            return Pieces(number, position, size, np.concatenate(cut))
        number, position, left = number[more], position[more] + size[more], left[more] - size[more]
    for each, start, length in zip(number.tolist(), position.tolist(), left.tolist(), strict=True):
        at, size, is_cut = _chain(data, start, length, size_of)
        numbers.append(np.full(len(at), each))
        positions.append(at)
        sizes.append(size)
        cut.append(np.array([each] * is_cut, np.int64))
    found = np.concatenate(numbers)
    order = np.argsort(found, kind="stable")
    position, size = np.concatenate(positions)[order], np.concatenate(sizes)[order]
    return Pieces(found[order], position, size, np.concatenate(cut))


def _chain(data: NDArray[np.uint8], start: int, length: int, size_of: SizeOf) -> tuple[Ints, Ints, bool]:
    """Return position and size of the structures in one payload, and whether it ends inside one.

    What would be the size is found at every byte, so that only to go from one to the next is left to Python.
    """
    every = np.arange(length)
    size = size_of(data, start + every, length - every).tolist()
    found, at = [], 0
    while at < length and 0 < size[at] <= length - at:
        found.append(at)
        at += size[at]
    return start + np.array(found, np.int64), np.array([size[each] for each in found], np.int64), at < length


def split(items: LeafBatch, size_of: SizeOf, bad: Report) -> LeafBatch:
    """Return an item for each structure in the payloads of *items*, in order, with its own position and size.

    A structure cut short is told to *bad*; it and what follows it in the item are left out.
    """
    return _apart(items, pieces(items.data, items.position, items.size, size_of), bad)


def _apart(items: LeafBatch, found: Pieces, bad: Report) -> LeafBatch:
    tell_cut(items, found.cut, bad)
    if not np.array_equal(found.number, np.arange(len(items.leaf))):
        items = items.take(found.number)
    return items._replace(position=found.position, size=found.size)


def tell_cut(items: LeafBatch, cut: Ints, bad: Report) -> None:
    """Tell *bad* of *items* that end inside a structure, by their numbers."""
    for item in cut.tolist():
        bad(items.error(item, f"its {items.size[item]} bytes end inside a structure"))


def records_in(
    data: NDArray[np.uint8], position: Ints, left: Ints, record: type[Record], *lengths: str
) -> tuple[Pieces, Structs]:
    """Return the structures in the payloads of *left* bytes at *position* of *data*, and the fixed part of each.

    Each is a *record* that varies in length: its fields *lengths* count the bytes behind it.
    """

    def size_of(data: NDArray[np.uint8], position: Ints, left: Ints) -> Ints:
        size = np.zeros(len(left), np.int64)
        room = np.flatnonzero(left >= record.SIZE)
        size[room] = sizes(records_at(data, record, position[room]))
        return size

    def sizes(heads: Structs) -> Ints:
        return sum((heads[name].astype(np.int64) for name in lengths), np.full(len(heads), record.SIZE))

    if left.min(initial=record.SIZE) >= record.SIZE:
        heads = records_at(data, record, position)
        if np.array_equal(sizes(heads), left):  # one in each, as in nearly all: they are read once
            number = np.arange(len(left))
            return Pieces(number, position, left, number[:0]), heads
    found = pieces(data, position, left, size_of)
    return found, records_at(data, record, found.position)


def split_records(items: LeafBatch, record: type[Record], bad: Report) -> tuple[LeafBatch, Structs]:
    """Return an item for each name in the payloads of *items*, as ``split`` does, and its *record*, with a name_len."""
    found, heads = records_in(items.data, items.position, items.size, record, "name_len")
    return _apart(items, found, bad), heads


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
