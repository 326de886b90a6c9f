"""A plan to free the end of a device: which chunks are cut where, and where their parts go.

Nothing that is in use changes its logical address. What lies behind the new end is cut off its chunk and becomes a
chunk of its own, whose stripes lie elsewhere; what stays, stays where it is; free grains may be left out. So neither
extents nor who refers to them matter, nor snapshots, checksums and compression, and only bytes in the way are copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.room import Room
from btrimg.errors import NoSpaceError
from btrimg.named import NamedTuple
from btrimg.ondisk.chunks import Stripe
from btrimg.ondisk.constants import BlockGroup
from btrimg.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from btrimg.edit.grains import Grains

    Range = tuple[int, int]

_ACCOUNTS = BlockGroup.METADATA | BlockGroup.SYSTEM
_KEPT = MIB  # logical bytes that stay of an empty chunk that is the last to tell the profile of its kind
_GAP = MIB  # bytes on each device from which on free grains amid a chunk are worth cutting it
_LEAST_OF_KERNEL = 256 * MIB  # fs/btrfs/ioctl.c btrfs_ioctl_resize makes no device smaller
_SPARE, _ENOUGH = 8, 2 * GIB  #: the part of a device, and the bytes, that is to be left for chunks of any kind


class Part(NamedTuple):
    """Grains of a chunk that become a chunk of their own."""

    first: int  #: number of the first grain
    last: int  #: of the one behind the last
    stripes: tuple[Stripe, ...]


class Recut(NamedTuple):
    """A chunk, and the parts in whose favour it goes; without parts it is deleted."""

    grains: Grains
    parts: tuple[Part, ...]


class _Way(NamedTuple):
    """How much is done to chunks so that they find room."""

    drops_ends: bool = False  #: free grains at the ends of what must move are left out
    drops_gaps: bool = False  #: those amid it, too
    splits: bool = False  #: what must move may go to several places
    drops_metadata: bool = False  #: free grains of metadata, which a commit needs some of, too
    drops_below: bool = False  #: free grains of what need not move, too: in a commit before


_WAYS = (
    _Way(),
    _Way(drops_ends=True),
    _Way(drops_ends=True, splits=True),
    _Way(drops_ends=True, drops_gaps=True, splits=True),
    _Way(drops_ends=True, drops_gaps=True, splits=True, drops_below=True),
    _Way(drops_ends=True, drops_gaps=True, splits=True, drops_metadata=True),
    _Way(drops_ends=True, drops_gaps=True, splits=True, drops_metadata=True, drops_below=True),
)


class Planner:
    """Plans for a device of a filesystem to end earlier."""

    def __init__(
        self, chunks: Sequence[Grains], devid: int, ends: Mapping[int, int], uuids: Mapping[int, bytes]
    ) -> None:
        """Learn all *chunks*, the *devid* whose end comes near, the *ends* of the devices that may be written to."""
        self._chunks, self._devid, self._ends, self._uuids = chunks, devid, ends, uuids
        self._end = ends[devid]
        self._keep_profiles()

    def _keep_profiles(self) -> None:
        """Keep something of an empty chunk where it is the last of its type: new ones are made like it."""
        kept = {each.chunk.type for each in self._chunks if each.bytes_used}
        for each in self._chunks:
            if not each.bytes_used and each.chunk.type not in kept:
                each.pin(0, -(-_KEPT // each.logical))
                kept.add(each.chunk.type)

    def plan(self) -> list[Recut]:
        """Return what the next commit is to do; nothing when all lies before the end already.

        Another commit may have to follow it. Of several ways the mildest is taken that leaves enough of the device
        unallocated, if there is one. Raises NoSpaceError when there is no room for all that is in use.
        """
        obstacles = [each for each in self._chunks if self._kept(each) < each.count]
        obstacles.sort(key=lambda each: (-each.chunk.length, each.chunk.logical))
        mildest: list[Recut] | None = None
        for way in _WAYS if obstacles else ():
            before = self._trimmed(way) if way.drops_below else []
            done = self._attempt(obstacles, way, before)
            if done is None:
                continue
            if self._room([*before, *done]).total(self._devid) >= min(self._end // _SPARE, _ENOUGH):
                return before or done
            mildest = mildest or before or done
        if mildest is not None or not obstacles:
            return mildest or []
        room = self._room([])
        needed = sum(
            last - first for each in obstacles for first, last in _bytes(each, each.used(self._kept(each), each.count))
        )
        raise NoSpaceError(
            f"device {self._devid} cannot end at {self._end}: {needed} bytes in use lie behind that, and"
            f" {room.total(self._devid)} before it are unallocated; free space within chunks does not make up for it"
            f"{self._advice(obstacles, room)}"
        )

    def _advice(self, obstacles: Iterable[Grains], room: Room) -> str:
        """Return what to do about chunks that have a stripe on each device which has room, and are not made narrower.

        Fewer stripes would be other rows: all of their bytes would have to be copied, the rest of the chunk too.
        """
        roomy = {devid for devid in room.devids() if devid != self._devid and room.total(devid) > _KEPT}
        names = {
            each.chunk.profile.name
            for each in obstacles
            if each.chunk.striped
            and len(each.chunk.stripes) > each.chunk.profile.min_stripes
            and roomy & {stripe.devid for stripe in each.chunk.stripes}
        }
        if not names:
            return ""
        what = f"`btrfs filesystem resize {self._devid}:{self._end} MOUNTPOINT` makes them of fewer"
        if self._end < _LEAST_OF_KERNEL:
            what = "`btrfs balance` converts them to a profile that is not striped"
        return (
            f"; chunks of {', '.join(sorted(names))} have a stripe on each device with room already, and two on one may"
            f" not be: {what}, once mounted"
        )

    def _room(self, recuts: Iterable[Recut]) -> Room:
        """Return what is unallocated when *recuts* are done; of two of a chunk the latter counts."""
        parts = {each.grains.chunk.logical: each.parts for each in recuts}
        taken: dict[int, list[Range]] = {}
        for each in self._chunks:
            whole = (Part(0, each.count, each.chunk.stripes),)
            for part in parts.get(each.chunk.logical, whole):
                length = each.footprint(part.first, part.last)
                for stripe in part.stripes:
                    taken.setdefault(stripe.devid, []).append((stripe.offset, stripe.offset + length))
        return Room(self._ends, taken)

    def _kept(self, each: Grains) -> int:
        """Return before which grain a chunk is to be cut, so that what comes first need not move."""
        kept = each.count
        for stripe in each.chunk.stripes:
            if stripe.devid == self._devid and stripe.offset + each.chunk.stripe_length > self._end:
                kept = min(kept, max(self._end - stripe.offset, 0) // each.physical)
        return each.cut_before(kept) if kept < each.count else kept

    def _trimmed(self, way: _Way) -> list[Recut]:
        """Return how free grains are left out of all chunks, whose parts stay where they are."""
        recuts = []
        for each in self._chunks:
            spans = self._spans(each, 0, way)
            if spans != [(0, each.count)]:
                recuts.append(Recut(each, tuple(Part(*span, _shifted(each, span[0])) for span in spans)))
        return recuts

    def _attempt(self, obstacles: Sequence[Grains], way: _Way, before: Sequence[Recut]) -> list[Recut] | None:
        room = self._room(before)
        recuts = []
        for each in obstacles:
            kept = self._kept(each)
            parts = [Part(0, kept, each.chunk.stripes)] if any(each.used(0, kept)) else []
            for span in self._spans(each, kept, way):
                placed = self._placed(each, *span, room, way)
                if placed is None:
                    return None
                parts += placed
            recuts.append(Recut(each, tuple(parts)))
        return recuts

    def _spans(self, each: Grains, first: int, way: _Way) -> list[Range]:
        """Return which grains from *first* on find a place; none if all are free."""
        runs = list(each.used(first, each.count, max(_GAP // each.physical, 1)))
        drops = way.drops_metadata or not each.chunk.type & _ACCOUNTS
        if not runs or (drops and way.drops_gaps):
            return runs
        return [(runs[0][0], runs[-1][1])] if drops and way.drops_ends else [(first, each.count)]

    def _placed(self, each: Grains, first: int, last: int, room: Room, way: _Way) -> list[Part] | None:
        """Return grains placed in *room*, in one part or in several; None if there is no room."""
        parts: list[Part] = []
        while first < last:
            part, stop = self._place(each, first, last, room), last
            while part is None and way.splits:
                longest = room.longest(room.devids()) // each.physical if stop == last else (stop - first) // 2
                stop = each.cut_before(first + min(longest, stop - first - 1))
                if stop <= first:
                    return None
                part = self._place(each, first, stop, room)
            if part is None:
                return None
            parts.append(part)
            first = stop
        return parts

    def _place(self, each: Grains, first: int, last: int, room: Room) -> Part | None:
        """Return grains as one part, of which only those stripes move that must."""
        length, state = each.footprint(first, last), room.state()
        stripes = list(_shifted(each, first))
        for number, stripe in enumerate(stripes):
            if stripe.devid == self._devid and stripe.offset + length > self._end:
                for devid in self._candidates(each, stripes, number, room):
                    start = room.take(devid, length)
                    if start is not None:
                        stripes[number] = Stripe(devid, start, self._uuids[devid])
                        break
                else:
                    room.restore(state)
                    return None
        return Part(first, last, tuple(stripes))

    def _candidates(self, each: Grains, stripes: Sequence[Stripe], number: int, room: Room) -> list[int]:
        """Return the devices that a stripe may go to, its own first: two stripes of a chunk are not on one device.

        But for DUP, which has both on one as a rule.
        """
        if each.chunk.type & BlockGroup.DUP:
            return [self._devid]
        others = {stripe.devid for at, stripe in enumerate(stripes) if at != number}
        return [self._devid, *(devid for devid in room.devids() if devid != self._devid and devid not in others)]


def _shifted(each: Grains, first: int) -> tuple[Stripe, ...]:
    """Return where the stripes of a chunk go on from a grain."""
    by = first * each.physical
    return tuple(Stripe(stripe.devid, stripe.offset + by, stripe.dev_uuid) for stripe in each.chunk.stripes)


def _bytes(each: Grains, runs: Iterable[Range]) -> Iterable[Range]:
    return [(each.start_of(first), each.start_of(last)) for first, last in runs]
