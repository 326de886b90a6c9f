"""What the scrub finds, gathered as rows of ``bad_copies``: few, because neighbours become one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.schema import BAD_COPIES, COPY_KINDS
from btrimg.check.scrub.copies import STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Table = dict[str, NDArray[Any]]

MOST_ROWS = 100_000  #: a device on which every other sector has rotted shall not fill the memory
_WAITING = 1 << 16  # rows, before neighbours among them are joined

_ROW = np.dtype(
    [
        ("kind", np.uint8),
        ("state", np.uint8),
        ("mirror", np.uint8),
        ("intact", np.uint8),
        ("devid", np.uint64),
        ("physical", np.int64),
        ("length", np.int64),
        ("logical", np.int64),
    ]
)
_SAME = ("kind", "state", "mirror", "intact", "devid")  # of neighbours that become one row


class BadCopies:
    """Rows of ``bad_copies``; *warn* hears it when there are too many."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._joined = np.empty(0, _ROW)
        self._waiting: list[NDArray[np.void]] = []
        self._count = 0

    def add(self, kind: int, **columns: Any) -> None:
        """Add rows of one *kind*, an index of COPY_KINDS; *columns* are the others, arrays or one value for all."""
        rows = np.empty(max(np.size(value) for value in columns.values()), _ROW)
        rows["kind"] = kind
        for name, value in columns.items():
            rows[name] = value
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count > _WAITING:
            self._join()

    def _join(self) -> None:
        rows = np.concatenate([self._joined, *self._waiting])
        self._waiting, self._count = [], 0
        rows = rows[np.lexsort([rows["physical"], *(rows[name] for name in reversed(_SAME))])]
        end = rows["physical"] + rows["length"]
        follows = rows["physical"][1:] == end[:-1]
        for name in _SAME:
            follows &= rows[name][1:] == rows[name][:-1]
        first = np.flatnonzero(np.append(True, ~follows)[: len(rows)])
        last = np.append(first[1:], len(rows))[: len(first)] - 1
        joined = rows[first]
        joined["length"] = end[last] - joined["physical"]
        if len(joined) > MOST_ROWS:
            self._warn(f"more than {MOST_ROWS} places on the devices are bad; not all of them are told")
        self._joined = joined[:MOST_ROWS]

    def rows(self) -> NDArray[np.void]:
        """Return the rows, by device and place."""
        self._join()
        return self._joined[np.lexsort((self._joined["physical"], self._joined["devid"]))]


def table_of(rows: NDArray[np.void]) -> Table:
    """Return *rows* as the columns of ``bad_copies``."""
    words = {"kind": np.array(COPY_KINDS, object), "state": np.array(STATES, object)}
    plain = {column.name: rows[column.name].astype(column.type) for column in BAD_COPIES.columns if not column.words}
    made = plain | {name: values[rows[name]] for name, values in words.items()}
    return {column.name: made[column.name] for column in BAD_COPIES.columns}
