"""Where on the devices nothing is allocated, as a plan fills it."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS
from btrimg.units import round_up
from btrimg.volume.devicemap import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Range = tuple[int, int]  # start and end, physical


class Room:
    """The holes of every device that may be written to, below its end.

    Holes begin at multiples of 64 KiB and leave out where superblocks stand: whatever is put there, no extent of it
    meets a superblock.
    """

    def __init__(self, ends: Mapping[int, int], taken: Mapping[int, Iterable[Range]]) -> None:
        """Learn the *ends* of the devices, and what is *taken* there, by devid."""
        self._holes = {devid: list(_holes(end, taken.get(devid, ()))) for devid, end in ends.items()}

    def longest(self, devids: Iterable[int]) -> int:
        """Return the bytes of the longest hole of those devices."""
        return max((end - start for devid in devids for start, end in self._holes.get(devid, ())), default=0)

    def total(self, devid: int) -> int:
        """Return the bytes of all holes of a device."""
        return sum(end - start for start, end in self._holes[devid])

    def devids(self) -> list[int]:
        """Return the devices that may be written to."""
        return sorted(self._holes)

    def take(self, devid: int, length: int) -> int | None:
        """Take *length* bytes of the shortest hole of a device that has them; return where, or None."""
        fitting = [(end - start, start) for start, end in self._holes.get(devid, ()) if end - start >= length]
        if not fitting:
            return None
        size, start = min(fitting)
        self._holes[devid].remove((start, start + size))
        rest = round_up(start + length, STRIPE_LEN)
        if rest < start + size:
            insort(self._holes[devid], (rest, start + size))
        return start

    def state(self) -> dict[int, list[Range]]:
        """Return what :meth:`restore` takes back to."""
        return {devid: list(holes) for devid, holes in self._holes.items()}

    def restore(self, state: dict[int, list[Range]]) -> None:
        """Undo all that was taken since *state*."""
        self._holes = state


def _holes(end: int, taken: Iterable[Range]) -> Iterator[Range]:
    superblocks = [(offset, offset + STRIPE_LEN) for offset in SUPERBLOCK_OFFSETS]
    at = RESERVED
    for start, stop in [*sorted([*taken, *superblocks]), (end, end)]:
        if at < min(start, end):
            yield at, min(start, end)
        at = max(at, round_up(stop, STRIPE_LEN))
