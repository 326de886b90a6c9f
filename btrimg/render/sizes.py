"""Sizes in the units that the options of btrfs-progs choose."""

from __future__ import annotations

from typing import NamedTuple

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
        power = self.power
        if power is None:
            power = 0
            while count >= base ** (power + 1) and power + 1 < len(suffixes):
                power += 1
        return f"{count / base**power:.2f}{suffixes[power]}"
