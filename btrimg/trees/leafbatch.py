"""The items of some leaves as columns: what the bulk path takes rows of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import ItemError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header
from btrimg.trees.batches import records_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from numpy.typing import NDArray

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.trees.batches import Ints, Structs

    T = TypeVar("T")


class LeafBatch(NamedTuple):
    """The items of some leaves as columns, in key order within each leaf."""

    first_leaf: int  #: number of the first leaf; they are numbered in the order in which batches come
    leaves: int  #: how many there are, those without items too
    data: NDArray[np.uint8]  #: the leaves' bytes, valid until the next batch is asked for
    heads: Structs  #: Header of every leaf, zeros for one that cannot be read or is on no disk
    types: frozenset[int]  #: the types of the items, and perhaps more
    made: dict[Any, Any]  #: what ``once`` has made of them
    leaf: Ints  #: number of the item's leaf
    objectid: NDArray[np.uint64]
    key_type: NDArray[np.uint8]
    offset: NDArray[np.uint64]  #: of the key
    position: Ints  #: of the payload in *data*
    size: Ints  #: of the payload, in bytes

    def of_type(self, *key_types: int) -> LeafBatch:
        """Return the items of one or a few types."""
        return self.take(self.numbers_of(*key_types))

    def numbers_of(self, *key_types: int) -> NDArray[np.intp]:
        """Return the indexes of the items of one or a few types."""
        kept = self.key_type == key_types[0]
        for key_type in key_types[1:]:
            kept |= self.key_type == key_type
        return np.flatnonzero(kept)

    def once(self, make: Callable[[LeafBatch], T]) -> T:
        """Return what *make* makes of these items, which is made once for all who take rows of them."""
        if make not in self.made:
            self.made[make] = make(self)
        found: T = self.made[make]
        return found

    def take(self, kept: NDArray[Any]) -> LeafBatch:
        """Return some of the items: *kept* holds indexes or a truth value for each."""
        if kept.dtype == np.bool_:
            if kept.all():
                return self
            kept = np.flatnonzero(kept)  # once for all columns: it is most of the time that they take
        return self.with_columns(column[kept] for column in self.columns)

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return what there is of each item, *leaf* to *size*."""
        return self[6:]

    def with_columns(self, columns: Iterable[NDArray[Any]]) -> LeafBatch:
        """Return other items of the same leaves."""
        return LeafBatch(*self[:5], {}, *columns)

    def records(self, record: type[Record]) -> Structs:
        """Return the fixed part of the *record* at the start of every payload, each large enough."""
        return records_at(self.data, record, self.position)

    def error(self, item: int, detail: str, *, fault: str = "malformed") -> ItemError:
        """Return what is wrong with one of the items, as an error that says where."""
        leaf = int(self.heads["bytenr"][self.leaf[item] - self.first_leaf])
        key = int(self.objectid[item]), int(self.key_type[item]), int(self.offset[item])
        return ItemError(leaf, key, detail, fault=fault)


def leaf_of(items: Iterable[tuple[Key, bytes]], number: int) -> LeafBatch:
    """Return a batch of one leaf, number *number*, that holds *items* and is on no disk.

    Its data have a byte even when no payload has: readers index byte 0 in the place of one that is not there.
    """
    keys, payloads = [], []
    for key, payload in items:
        keys.append(key)
        payloads.append(payload)
    size = np.array([len(payload) for payload in payloads], np.int64)
    return LeafBatch(
        number,
        1,
        np.frombuffer(b"".join(payloads) or b"\0", np.uint8),
        np.zeros(1, Header.dtype()),
        frozenset(key.type for key in keys),
        {},
        np.full(len(keys), number, np.int64),
        np.array([key.objectid for key in keys], np.uint64),
        np.array([key.type for key in keys], np.uint8),
        np.array([key.offset for key in keys], np.uint64),
        np.cumsum(size) - size,
        size,
    )
