"""Put a value where a span is: numbers and bytes, of fixed size or growing, counters kept right."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from btrimg.corrupt.values import combine
from btrimg.ondisk.blocks import DiskKey
from btrimg.ondisk.keynames import item_type, objectid
from btrimg.ondisk.spans import bits_of, pack_integer, read_integer

if TYPE_CHECKING:
    from btrimg.corrupt.values import Values
    from btrimg.corrupt.words import Edit
    from btrimg.ondisk.spans import Counter, Span

NONE = "none"  #: as a value: take away what is there


def symbol(text: str) -> int:
    """Return the number of a key type or objectid that *text* names; raise ValueError."""
    with suppress(ValueError):
        return item_type(text)
    return objectid(text)


def read_span(data: bytes, span: Span) -> int | bytes:
    """Return what stands in *span*."""
    return read_integer(data, span.start, span.letter) if span.letter else data[span.start : span.end]


class Assignment:
    """The operator and the value of one edit."""

    def __init__(self, edit: Edit, values: Values) -> None:
        self._edit, self._values = edit, values
        self.is_none = edit.value == NONE and not edit.operator

    def as_integer(self, old: int, bits: int) -> int:
        """Return the new number for a place of so many *bits*; what ``+=`` and the like give wraps around.

        Raises ValueError when a given number does not fit.
        """
        value = self._values.number(self._edit.value, symbol)
        if not self._edit.operator and not -(1 << bits - 1) <= value < 1 << bits:
            raise ValueError(f"{value} does not fit the {bits} bits that are there")
        return combine(self._edit.operator, old, value) % (1 << bits)

    def as_bytes(self, old: bytes, size: int | None) -> bytes:
        """Return the new bytes for a place of *size* bytes (None: it can grow), zeros behind what is too short.

        Raises ValueError when they are too many.
        """
        operator = self._edit.operator
        value = self._values.data(self._edit.value, size)
        if operator == "^":
            flipped = bytes(a ^ b for a, b in zip(old, value, strict=False))
            return flipped + old[len(flipped) :]
        if operator:
            raise ValueError(f"{operator}= is for numbers; for bytes there are = and ^=")
        if size is not None and len(value) > size:
            raise ValueError(f"{len(value)} bytes do not fit the {size} that are there")
        return value.ljust(size or 0, b"\0")

    def length(self) -> int:
        """Return how many bytes the value has."""
        return len(self._values.data(self._edit.value, None))

    def into(self, data: bytes, span: Span) -> bytes:
        """Return *data* with the new value in *span*; the counter of what grows is set too."""
        if span.letter:
            old = read_integer(data, span.start, span.letter)
            new = pack_integer(self.as_integer(old, bits_of(span.letter)), span.letter)
        elif span.record is DiskKey and not self._edit.value.startswith(("0x", "{")):
            new = DiskKey(*self._values.key(self._edit.value)).pack()
        elif self.is_none:
            if not span.elastic:
                raise ValueError("that is always there, and cannot be taken away")
            new = b""
        else:
            new = self.as_bytes(data[span.start : span.end], None if span.elastic else span.size)
        if span.counter and len(new) != span.size:
            data = self._recounted(data, span.counter, len(new) - span.size)
        return data[: span.start] + new + data[span.end :]

    @staticmethod
    def _recounted(data: bytes, counter: Counter, more: int) -> bytes:
        if more % counter.unit:
            raise ValueError(f"{abs(more)} bytes are no number of whole elements of {counter.unit}")
        count = read_integer(data, counter.start, counter.letter) + more // counter.unit
        if not 0 <= count < 1 << bits_of(counter.letter):
            raise ValueError(f"its counter cannot hold {count}")
        packed = pack_integer(count, counter.letter)
        return data[: counter.start] + packed + data[counter.start + len(packed) :]
