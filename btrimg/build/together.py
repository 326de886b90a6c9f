"""Operations that follow each other and are of one kind and place, done together: what they share is done once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.build.values import Put, Reflink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.build.recipe import Origin
    from btrimg.build.values import Operation

    Said = tuple[Origin, Operation]  # one operation, and where it comes from

_MOST = 20_000  # operations that are done together


def batches(operations: Iterable[Said]) -> Iterator[list[Said]]:
    """Yield all *operations* in order, one by one but for runs of those that have the same :func:`key_of`."""
    batch: list[Said] = []
    key: object = None
    for each in operations:
        this = key_of(each[1])
        if batch and (this is None or this != key or len(batch) >= _MOST):
            yield batch
            batch = []
        batch.append(each)
        key = this
    if batch:
        yield batch


def key_of(operation: Operation) -> object:
    """Return what is equal for operations that can be done together, None for others.

    They are puts into one directory, kept in one way, and reflinks of one whole file in one directory.
    """
    if isinstance(operation, Put):
        return operation.path.rpartition(b"/")[0], operation.storage
    if isinstance(operation, Reflink) and operation.source and operation[2:] == (0, None, 0):
        return operation.path.rpartition(b"/")[0], operation.source
    return None
