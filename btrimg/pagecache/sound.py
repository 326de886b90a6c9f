"""Which copies of data are what their checksums say: each sector of an extent is looked at once."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.filesystem.csums import Csums
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import TreeId
from btrimg.units import MIB
from btrimg.volume.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.volume.chunkmap import Location
    from btrimg.volume.device import Device

_STEP = 4 * MIB  #: bytes that are read and judged at once


class Stretch(NamedTuple):
    """Bytes that lie side by side on a device, or that no device holds as they are."""

    logical: int
    length: int
    device: Device | None  #: None where no copy can be used; reading may yet rebuild them
    physical: int


class SoundCopies:
    """Finds copies to map; remembers of which extents the first copy is sound."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._checked: dict[tuple[int, int], Ranges] = {}
        self._csums: Csums | None = None
        self._lock = Lock()

    def find(self, extent: tuple[int, int], logical: int, length: int, *, verify: bool) -> Iterator[Stretch]:
        """Yield where *length* bytes of whole sectors at *logical* are to be mapped from, in order.

        *extent* is the address and generation of their extent. With *verify*, every sector is compared with its
        checksum, unless it has been under that name; another copy takes the place of a damaged or unreadable one.
        Raises CorruptError where no chunk is, ChecksumError where a sector has no checksum.
        """
        volume = self._image.volume
        end = logical + length
        while logical < end:
            mapping = volume.chunk_map.locate(logical)
            piece = min(end - logical, mapping.length)
            usable = [place for place in mapping.copies if place.devid in volume.devices]
            usable.sort(key=lambda place: volume.lag.get(place.devid, 0) > 0)
            if not usable:
                yield Stretch(logical, piece, None, 0)
            elif verify:
                yield from self._verified(extent, logical, piece, usable)
            else:
                yield Stretch(logical, piece, volume.devices[usable[0].devid], usable[0].physical)
            logical += piece

    def _verified(
        self, extent: tuple[int, int], logical: int, length: int, places: Sequence[Location]
    ) -> Iterator[Stretch]:
        first = self._image.volume.devices[places[0].devid]
        with self._lock:
            checked = self._checked.setdefault(extent, Ranges())
            todo = list(checked.missing(logical, logical + length))
        at = logical
        for start, end in todo:
            if at < start:
                yield Stretch(at, start - at, first, places[0].physical + at - logical)
            for at in range(start, end, _STEP):
                stop = min(at + _STEP, end)
                if self._agrees(places[0], at, at - logical, stop - at):
                    with self._lock:
                        checked.add(at, stop)
                    yield Stretch(at, stop - at, first, places[0].physical + at - logical)
                else:
                    yield from self._by_sector(logical, at, stop, places)
            at = end
        if at < logical + length:
            yield Stretch(at, logical + length - at, first, places[0].physical + at - logical)

    def _by_sector(self, logical: int, start: int, end: int, places: Sequence[Location]) -> Iterator[Stretch]:
        """Yield a stretch for each sector of [start, end), where the first copy of *places* is not sound all over."""
        volume = self._image.volume
        for at in range(start, end, volume.sectorsize):
            sound = (place for place in places if self._agrees(place, at, at - logical, volume.sectorsize))
            place = next(sound, None)
            if place is not places[0] and place is not None:
                volume.warn(f"data at logical {at}: the first copy fails its checksum; another is good")
            device = volume.devices[place.devid] if place else None
            yield Stretch(at, volume.sectorsize, device, place.physical + at - logical if place else 0)

    def _agrees(self, place: Location, logical: int, inside: int, length: int) -> bool:
        volume = self._image.volume
        with self._lock:  # Csums remembers what it read last
            if self._csums is None:
                tree = self._image.tree(TreeId.CSUM_TREE)
                self._csums = Csums(tree, volume.csum.size, volume.sectorsize)
            expected = self._csums.lookup(logical, length)
        try:
            data = memoryview(volume.devices[place.devid].pread(length, place.physical + inside))
        except DeviceError:
            return False
        sectors = (data[at : at + volume.sectorsize] for at in range(0, length, volume.sectorsize))
        return volume.csum.digests(sectors) == expected
