"""Sizes in the units that the options of btrfs-progs choose."""

from __future__ import annotations

import struct

from btrimg.named import NamedTuple

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class Units(NamedTuple):
    """How to write a number of bytes."""

    raw: bool = False  #: as an integer
    decimal: bool = False  #: powers of 1000, not of 1024
    power: int | None = None  #: always this power; None for the largest that leaves at least 1

    def text(self, count: int) -> str:
        """Return *count* bytes with two decimals and the unit, or as an integer."""
        if self.raw:
            return str(count)
        base, suffixes = (1000, _DECIMAL) if self.decimal else (1024, _BINARY)
        if self.power is not None:
            return f"{_quotient(count, base**self.power):.2f}{suffixes[self.power]}"
        power, last, size = 0, count, count
        while size >= base and power + 1 < len(suffixes):
            power, last, size = power + 1, size, size // base
        return f"{_quotient(last, base if power else 1):.2f}{suffixes[power]}"


def _quotient(count: int, base: int) -> float:
    """Divide in single precision, so that the text is that of btrfs-progs (common/units.c, pretty_size_snprintf)."""
    return _single(_single(count) / base)


def _single(value: float) -> float:
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found
