"""What is told, over a line, by those who ask for a scrub and by the one who does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.named import NamedTuple
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from btrimg.errors import CorruptError
    from btrimg.forked import Line

    Columns = Mapping[str, Any]

_AT_ONCE = 16 * MIB  # bytes of a column in a message


class Told(NamedTuple):
    """What there is to judge beside data with checksums: columns, with indexes of their words.

    What several subvolumes share needs to be there once.
    """

    extents: Columns  #: of that relation
    file_extents: Columns
    sound: Columns  #: tree blocks of which the first copy is known to be sound, in order of address


#: The columns of each that are looked at.
TELLING = (
    ("kind", "logical", "length", "generation"),
    ("kind", "extent", "extent_offset", "extent_length", "length"),
    ("logical", "generation"),
)


class Outcome(NamedTuple):
    """What the scrub has to say in the end."""

    rows: NDArray[np.void]  #: of ``BadCopies``
    warned: Sequence[str]
    errors: Sequence[CorruptError]  #: of what could not be read


def tell_column(line: Line, column: NDArray[Any]) -> None:
    """Tell an array of numbers, in parts."""
    line.tell((column.dtype.str, len(column)))
    rows = _AT_ONCE // column.dtype.itemsize
    for first in range(0, len(column), rows):
        line.tell(column[first : first + rows].tobytes())


def hear_column(line: Line) -> NDArray[Any]:
    """Return the array that is told next."""
    dtype, count = line.hear()
    column = np.empty(count, dtype)
    rows = _AT_ONCE // column.dtype.itemsize
    for first in range(0, count, rows):
        column[first : first + rows] = np.frombuffer(line.hear(), column.dtype)
    return column
