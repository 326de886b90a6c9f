"""Compare where btrfs-map-logical says that extents lie on the devices."""

from __future__ import annotations

import os
import re
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import DeviceError
from btrimg.named import NamedTuple
from btrimg.oracle.progs import SilentToolError, run_tool
from btrimg.oracle.setting import judging
from btrimg.oracle.survey import spread
from btrimg.volume.device import Device
from btrimg.volume.superblocks import read_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from btrimg.filesystem.image import Image
    from btrimg.oracle.setting import Setting
    from btrimg.oracle.survey import Extents
    from btrimg.oracle.tally import Tally


class Place(NamedTuple):
    """Where a piece of an extent lies."""

    logical: int
    physical: int
    devid: int | None


UNIT = "extents"
_SPAN = 64 << 20  # bytes that one call is asked for; it ends before at the first item that is no extent
_LINE = re.compile(r"mirror (\d+) logical (\d+) physical (\d+) device (.*)")
_SILENT = "btrfs-map-logical says nothing of some extents whose item is the first of its leaf"
_REBUILT = "mirrors that RAID5 and RAID6 rebuild from parity have no place of their own"


def map_logical(setting: Setting, device: str, extents: Extents) -> None:
    """Compare every piece of every mirror of extents.

    A call tells of the extents that follow each other in the extent tree without a reference of its own between
    them, so that many come at once. *device* is one through which btrfs-progs find all others.
    """
    tally = setting.ledger.open("map-logical", setting.progs.judge, UNIT)
    tally.whole = len(extents.logical)
    if setting.progs.map_logical is None:
        tally.skip("there is no btrfs-map-logical", 0)
        return
    devid_of = cache(partial(_devid, setting.image))
    answered = -1  # the last extent that was told of
    with judging(tally):
        for number in spread(tally.whole, setting.most).tolist():
            if number <= answered:
                continue
            start, length = int(extents.logical[number]), int(extents.length[number])
            words = ("-l", str(start), "-b", str(_SPAN if setting.most is None else length))
            try:
                # It ends with exit code 1 at an item that is no extent, too.
                text = run_tool(setting.progs.map_logical, *words, device, any_exit=True)
            except SilentToolError:
                text = ""
            found = _by_extent(text, devid_of, extents)
            answered = max(found, default=number)
            for each in range(number, answered + 1):
                if each not in found and extents.first[each]:
                    tally.skip(_SILENT)
                else:
                    start, length = int(extents.logical[each]), int(extents.length[each])
                    _compare(tally, setting.image, start, length, found.get(each))
                    tally.done()


def _devid(image: Image, path: str) -> int | None:
    """Return the devid that stands on the device at *path*, None where the image has none such.

    It may be another path than that by which the device was told: btrfs-progs take one of all that they find.
    """
    try:
        with Device(path) as device:
            found = next((copy.superblock for copy in read_copies(device) if copy.superblock), None)
    except DeviceError:
        return None
    return found.dev_item.devid if found and found.dev_item.devid in image.volume.devices else None


def _by_extent(text: str, devid_of: Callable[[str], int | None], extents: Extents) -> dict[int, dict[int, list[Place]]]:
    """Return the places that a text tells of, by number among *extents* and mirror."""
    found: dict[int, dict[int, list[Place]]] = {}
    for line in text.split("\n"):  # a byte of a name may be a line's end in Latin-1
        told = _LINE.fullmatch(line)
        if told:
            mirror, logical, physical = map(int, told.groups()[:3])
            number = int(np.searchsorted(extents.logical, logical, "right")) - 1
            if number < 0 or logical >= int(extents.logical[number]) + int(extents.length[number]):
                continue
            of_mirror = found.setdefault(number, {}).setdefault(mirror, [])
            of_mirror.append(Place(logical, physical, devid_of(os.fsdecode(told[4].encode("latin-1")))))
    return found


def _compare(tally: Tally, image: Image, start: int, length: int, found: Mapping[int, list[Place]] | None) -> None:
    theirs = found or {}
    ours: dict[int, list[Place]] = {}
    for mirror, place in _our_places(image, start, length):
        ours.setdefault(mirror, []).append(place)
    for mirror in sorted({*ours, *theirs}):
        if mirror not in ours and image.volume.chunk_map.find(start).profile.parity:
            tally.allow({_REBUILT: 1})
            continue
        mine, their = (_joined(side.get(mirror, [])) for side in (ours, theirs))
        tally.same(f"extent {start}, mirror {mirror}", mine, their)


def _joined(pieces: Iterable[Place]) -> list[Place]:
    """Return where pieces start that do not follow the one before on the same device: theirs end every 64 KiB."""
    starts: list[Place] = []
    last: Place | None = None
    for piece in pieces:
        follows = last and piece.physical - last.physical == piece.logical - last.logical and piece.devid == last.devid
        if not follows:
            starts.append(piece)
        last = piece
    return starts


def _our_places(image: Image, start: int, length: int) -> Iterator[tuple[int, Place]]:
    """Yield (mirror, place) of each piece that is contiguous on its device; of a missing device no devid."""
    logical = start
    while logical < start + length:
        mapping = image.volume.chunk_map.locate(logical)
        for mirror, place in enumerate(mapping.copies, 1):
            known = place.devid if place.devid in image.volume.devices else None
            yield mirror, Place(logical, place.physical, known)
        logical += mapping.length
