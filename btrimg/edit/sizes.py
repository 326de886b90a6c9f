"""How ``btrimg edit IMAGE resize`` is told a size."""

from __future__ import annotations

import re

from btrimg.named import NamedTuple
from btrimg.units import parse_size

_WORD = re.compile(r"(?:(\d+):)?(max|[+-]?.+)", re.ASCII)


class NewSize(NamedTuple):
    """What a device is to be."""

    devid: int | None  #: None for the only device
    sign: int  #: 1 and -1 for so many bytes more or less than now, else 0
    bytes: int | None  #: None for all that the device has

    def of(self, now: int) -> int | None:
        """Return the size of a device that is *now* so large; None for all that it has."""
        return self.bytes if self.bytes is None or not self.sign else now + self.sign * self.bytes


def parse_new_size(text: str) -> NewSize:
    """Return what ``[DEVID:]SIZE``, ``[DEVID:]+SIZE``, ``[DEVID:]-SIZE`` or ``[DEVID:]max`` means.

    Raises ValueError with a sentence.
    """
    found = _WORD.fullmatch(text)
    if found is None:
        raise ValueError("write a size, such as 10G, +1G, -512M or max, after DEVID: where there are several devices")
    devid, word = found.groups()
    number = int(devid) if devid else None
    if word == "max":
        return NewSize(number, 0, None)
    sign = {"+": 1, "-": -1}.get(word[0], 0)
    return NewSize(number, sign, parse_size(word[1:] if sign else word))
