"""Plans to free the end of a device: whatever lies where, nothing in use is lost, overwritten or laid over another."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btrimg.edit.grains import Grains
from btrimg.edit.layout import Planner, Recut
from btrimg.edit.room import Room
from btrimg.errors import NoSpaceError
from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, BlockGroup
from btrimg.units import MIB
from btrimg.volume.chunkmap import ChunkMap, MappedChunk
from btrimg.volume.profiles import PROFILES, data_columns

SECTOR = 4096
DEVICES = 4
WIDTHS = {
    0: (1,),
    BlockGroup.DUP: (2,),
    BlockGroup.RAID0: (1, 3),
    BlockGroup.RAID1: (2,),
    BlockGroup.RAID1C3: (3,),
    BlockGroup.RAID10: (2, 4),
    BlockGroup.RAID5: (2, 3),
    BlockGroup.RAID6: (3, 4),
}


@st.composite
def filesystems(draw: st.DrawFn) -> tuple[list[Grains], int, dict[int, int]]:
    """Chunks side by side with gaps, extents in them, the device that is to end earlier, and where devices end."""
    ends = dict.fromkeys(range(1, DEVICES + 1), MIB)
    chunks: list[tuple[int, Chunk]] = []
    logical = MIB
    for _ in range(draw(st.integers(1, 6))):
        bits = draw(st.sampled_from(sorted(WIDTHS)))
        width = draw(st.sampled_from(WIDTHS[bits]))
        first = draw(st.integers(0, DEVICES - 1))
        devids = [first + 1] * 2 if bits == BlockGroup.DUP else [(first + n) % DEVICES + 1 for n in range(width)]
        length = draw(st.integers(1, 40)) * STRIPE_LEN
        stripes = []
        for devid in devids:
            start = ends[devid] + draw(st.integers(0, 8)) * STRIPE_LEN
            stripes.append(Stripe(devid, start, bytes([devid]) * 16))
            ends[devid] = start + length
        length *= data_columns(width, PROFILES[bits])
        kind = draw(st.sampled_from((BlockGroup.DATA, BlockGroup.METADATA)))
        sizes = (STRIPE_LEN, STRIPE_LEN, SECTOR, width, 1)
        chunks.append((logical, Chunk(length, 2, STRIPE_LEN, kind | bits, *sizes, tuple(stripes))))
        logical += length
    found = [Grains(chunk, _extents(draw, chunk)) for chunk in ChunkMap(chunks, pytest.fail)]
    ends = {devid: end + draw(st.integers(0, 30)) * STRIPE_LEN for devid, end in ends.items()}
    shrunk = draw(st.integers(1, DEVICES))
    ends[shrunk] = MIB + draw(st.integers(1, max((ends[shrunk] - MIB) // SECTOR, 1))) * SECTOR
    return found, shrunk, ends


def _extents(draw: st.DrawFn, chunk: MappedChunk) -> list[tuple[int, int]]:
    at, extents = chunk.logical, []
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.sampled_from((0, SECTOR, 5 * SECTOR, 30 * SECTOR, 300 * SECTOR)))
        end = at + draw(st.sampled_from((SECTOR, 16 * SECTOR, 33 * SECTOR, 200 * SECTOR)))
        if end <= chunk.end:
            extents.append((at, end))
            at = end
    return extents


def _places(each: Grains) -> list[tuple[int, int, int]]:
    length = each.chunk.stripe_length
    return [(stripe.devid, stripe.offset, stripe.offset + length) for stripe in each.chunk.stripes]


@settings(max_examples=200)
@given(filesystems())
def test_a_plan_keeps_all_that_is_in_use_and_overwrites_nothing(
    case: tuple[list[Grains], int, dict[int, int]],
) -> None:
    chunks, devid, ends = case
    uuids = {each: bytes([each]) * 16 for each in ends}
    types = {each.chunk.type for each in chunks}
    used = [extent for each in chunks for extent in each.extents]
    for commit in range(2):
        try:
            recuts = Planner(chunks, devid, ends, uuids).plan()
        except NoSpaceError:
            assert commit == 0, "what was found to be possible is so after the first commit"
            return
        chunks = _done(chunks, recuts, ends)
        assert [extent for each in chunks for extent in each.extents] == used
        assert {each.chunk.type for each in chunks} == types, "the profiles are still told"
        if all(end <= ends[devid] for each in chunks for where, _, end in _places(each) if where == devid):
            return
    pytest.fail("two commits are not enough")


def _done(chunks: list[Grains], recuts: list[Recut], ends: dict[int, int]) -> list[Grains]:
    """Return the chunks after *recuts*, which are judged."""
    recut = {each.grains.chunk.logical: each for each in recuts}
    before = [place for each in chunks for place in _places(each)]
    after: list[Grains] = []
    for each in chunks:
        after += _parts(recut[each.chunk.logical], before, ends) if each.chunk.logical in recut else [each]
    places = sorted(place for each in after for place in _places(each))
    for (left, _, end), (right, start, _) in pairwise(places):
        assert left != right or end <= start, "two chunks overlap"
    return after


def _parts(recut: Recut, before: list[tuple[int, int, int]], ends: dict[int, int]) -> list[Grains]:
    """Return the parts as chunks of their own."""
    each, found = recut.grains, []
    for part in recut.parts:
        logical, end = each.start_of(part.first), each.start_of(part.last)
        chunk = Chunk(end - logical, 2, STRIPE_LEN, each.chunk.type, 0, 0, SECTOR, len(part.stripes), 1, part.stripes)
        (mapped,) = ChunkMap([(logical, chunk)], pytest.fail)
        made = Grains(mapped, each.extents_of(part.first, part.last))
        assert all(logical <= start and stop <= end for start, stop in made.extents)
        for old, new, (devid, start, stop) in zip(each.chunk.stripes, part.stripes, _places(made), strict=True):
            if (new.devid, new.offset) != (old.devid, old.offset + part.first * each.physical):
                assert MIB <= start < stop <= ends[devid]
                assert not any(devid == d and start < e and s < stop for d, s, e in before), "the last state needs it"
                assert not any(start < at + SECTOR and at < stop for at in SUPERBLOCK_OFFSETS)
        if not mapped.type & BlockGroup.DUP:
            assert len({stripe.devid for stripe in part.stripes}) == len(part.stripes)
        found.append(made)
    return found


def test_holes_begin_at_stripes_and_leave_out_superblocks() -> None:
    room = Room({1: 80 * MIB}, {1: [(2 * MIB, 2 * MIB + 5000), (10 * MIB, 60 * MIB)]})
    state = room.state()
    assert state[1] == [
        (MIB, 2 * MIB),
        (2 * MIB + STRIPE_LEN, 10 * MIB),
        (60 * MIB, 64 * MIB),
        (64 * MIB + STRIPE_LEN, 80 * MIB),
    ]
    assert room.take(1, MIB) == MIB
    assert room.take(1, 8 * MIB) == 64 * MIB + STRIPE_LEN
    assert room.take(1, 16 * MIB) is None
    room.restore(state)
    assert room.take(1, 5000) == MIB
    assert room.take(2, 1) is None


def test_it_is_told_when_fewer_stripes_would_do() -> None:
    def planner(end: int, *devids: int) -> Planner:
        stripes = tuple(Stripe(devid, MIB, bytes(16)) for devid in devids)
        bits, columns = (BlockGroup.RAID0 if len(devids) > 1 else 0), len(devids)
        length = 600 * MIB * columns
        chunk = Chunk(length, 2, STRIPE_LEN, BlockGroup.DATA | bits, 0, 0, SECTOR, columns, 1, stripes)
        (mapped,) = ChunkMap([(MIB, chunk)], pytest.fail)
        ends = dict.fromkeys(devids, 1000 * MIB) | {3: end}
        return Planner([Grains(mapped, [(MIB, MIB + length)])], 3, ends, dict.fromkeys(ends, bytes(16)))

    advice = r"of raid0 have a stripe on each .*`btrfs filesystem resize 3:314572800 MOUNTPOINT` makes them of fewer"
    with pytest.raises(NoSpaceError, match=advice):
        planner(300 * MIB, 1, 2, 3).plan()
    with pytest.raises(NoSpaceError, match="`btrfs balance` converts them"):
        planner(4 * MIB, 1, 2, 3).plan()
    with pytest.raises(NoSpaceError, match=r"does not make up for it$"):
        planner(300 * MIB, 3).plan()


def test_a_chunk_is_cut_where_no_extent_lies_across() -> None:
    chunk = Chunk(16 * STRIPE_LEN, 2, STRIPE_LEN, BlockGroup.DATA, 0, 0, SECTOR, 1, 1, (Stripe(1, MIB, bytes(16)),))
    (mapped,) = ChunkMap([(MIB, chunk)], pytest.fail)
    extents = [(MIB, MIB + SECTOR), (MIB + 3 * STRIPE_LEN, MIB + 6 * STRIPE_LEN + SECTOR)]
    grains = Grains(mapped, extents)
    assert [grains.cut_before(at) for at in range(9)] == [0, 1, 2, 3, 3, 3, 3, 7, 8]
    assert list(grains.used(0, 16)) == [(0, 1), (3, 7)]
    assert list(grains.used(0, 16, 3)) == [(0, 7)]
    assert list(grains.used(1, 3)) == []
    grains.pin(15, 20)
    assert list(grains.used(0, 16)) == [(0, 1), (3, 7), (15, 16)]
    assert grains.bytes_used == 3 * STRIPE_LEN + 2 * SECTOR
