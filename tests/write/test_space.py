"""Space against a set of sectors: what is given out, and what the trees say of it, over all profiles."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.blank import MIB, blank

from btrimg.errors import NoSpaceError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import BlockGroupItem, DevExtent, FreeSpaceInfo
from btrimg.ondisk.constants import U64_MAX, BlockGroup, ItemType, TreeId
from btrimg.volume.devicemap import RESERVED

if TYPE_CHECKING:
    from support.blank import Blank

    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.write.space import Run, Space

SUPERBLOCK = 64 * MIB  # device offset
ELEMENT = 64 << 10
#: Devices per profile: more than the minimum, and of different sizes; a superblock lies where chunks will be.
DEVICES = {
    "single": 1,
    "dup": 1,
    "raid0": 3,
    "raid1": 3,
    "raid1c3": 4,
    "raid1c4": 5,
    "raid5": 4,
    "raid6": 5,
    "raid10": 6,
}
FEATURES = ("^block-group-tree",), (), ("^free-space-tree", "^block-group-tree")


def sizes(profile: str) -> list[int]:
    return [(66 + 7 * number) * MIB for number in range(DEVICES[profile])]


class Fixture:
    """A space on blank devices, and what an outsider reads from its trees and its chunk map."""

    def __init__(self, directory: str, profile: str, **choices: Any) -> None:
        self.made: Blank = blank(directory, sizes(profile), data=profile, metadata=profile, **choices)
        self.volume = self.made.volume
        self.space: Space = self.made.space()
        self.sector = self.volume.sectorsize
        self._kept: dict[int, set[int]] = {}

    @property
    def has_free_space_tree(self) -> bool:
        return bool(self.volume.superblock.compat_ro_flags & 1)

    def reopen(self) -> None:
        self.made.remember(self.space)
        self.space = self.made.space(policy=False)

    def used_of(self, chunk: MappedChunk) -> int:
        """Return the bytes that the block group item of a chunk says are used."""
        own_tree = self.volume.superblock.compat_ro_flags & 8
        tree = self.made.tree(TreeId.BLOCK_GROUP_TREE if own_tree else TreeId.EXTENT_TREE)
        item = BlockGroupItem.unpack(tree.get(Key(chunk.logical, ItemType.BLOCK_GROUP_ITEM, chunk.length)))
        assert item.flags == chunk.type
        return int(item.used)

    def free_of(self, chunk: MappedChunk) -> set[int]:
        """Return the addresses of the sectors that the free space tree says are free, and judge its form."""
        tree, size = self.made.tree(TreeId.FREE_SPACE_TREE), self.sector
        free: set[int] = set()
        info = None
        ends = set()
        for key, payload in tree.items(Key(chunk.logical, 0, 0), Key(chunk.end - 1, 255, U64_MAX)):
            if key.type == ItemType.FREE_SPACE_INFO:
                info = FreeSpaceInfo.unpack(payload)
                assert key == (chunk.logical, key.type, chunk.length)
            elif key.type == ItemType.FREE_SPACE_EXTENT:
                assert key.objectid not in ends, "runs that touch are one"
                ends.add(key.objectid + key.offset)
                free |= set(range(key.objectid, key.objectid + key.offset, size))
            else:
                bits = (payload[bit // 8] >> bit % 8 & 1 for bit in range(key.offset // size))
                free |= {key.objectid + number * size for number, bit in enumerate(bits) if bit}
        assert info is not None
        assert info.extent_count == sum(sector - size not in free for sector in free)
        return free

    def in_superblocks(self, chunk: MappedChunk) -> set[int]:
        """Return the sectors of a chunk in elements, or rows with parity, where a superblock lies."""
        if chunk.logical not in self._kept:
            found = self._kept[chunk.logical] = set()
            for start in range(chunk.logical, chunk.end, ELEMENT):
                places = chunk.row(start).places if chunk.profile.parity else chunk.locate(start).copies
                if any(place.physical == SUPERBLOCK for place in places):
                    found |= set(range(start, start + ELEMENT, self.sector))
        return self._kept[chunk.logical]

    def judge_devices(self) -> None:
        """See that chunks, device extents and device items tell the same, and nothing overlaps."""
        spans: dict[int, list[tuple[int, int]]] = {}
        for chunk in self.volume.chunk_map:
            for stripe in chunk.stripes:
                spans.setdefault(stripe.devid, []).append((stripe.offset, stripe.offset + chunk.stripe_length))
        for devid, item in self.space.device_items().items():
            mine = sorted(spans.get(devid, []))
            ends = [RESERVED, *(end for _, end in mine)]
            assert all(start >= end for end, (start, _) in zip(ends, mine, strict=False))
            assert ends[-1] <= item.total_bytes
            assert item.bytes_used == sum(end - start for start, end in mine)
            assert self.made.tree(TreeId.CHUNK_TREE).get(Key(1, ItemType.DEV_ITEM, devid)) == item.pack()
            extents = self.made.tree(TreeId.DEV_TREE).items(
                Key(devid, ItemType.DEV_EXTENT, 0), Key(devid, ItemType.DEV_EXTENT, U64_MAX)
            )
            assert [(key.offset, key.offset + DevExtent.unpack(each).length) for key, each in extents] == mine


def sectors_of(run: Run | tuple[int, int], size: int) -> set[int]:
    return set(range(run[0], run[0] + run[1], size))


class SpaceMachine(RuleBasedStateMachine):
    """What is allocated, released and recorded, in any order, beside a set of the sectors in use."""

    @initialize(
        profile=st.sampled_from(sorted(DEVICES)),
        features=st.sampled_from(FEATURES),
        mixed=st.booleans(),
    )
    def begin(self, profile: str, features: tuple[str, ...], mixed: bool) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="btrimg-space-")
        size = 65536  # sectors are few so
        self.fixture = Fixture(
            self.directory.name, profile, features=features, mixed=mixed, sectorsize=size, nodesize=size
        )
        self.space = self.fixture.space
        self.used: dict[int, int] = {}  # sector -> kind
        self.released: set[int] = set()  # since the last commit
        self.recorded = False

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.fixture.volume.close()
            self.directory.cleanup()

    def _took(self, sectors: set[int], kind: int) -> None:
        assert not sectors & self.used.keys()
        assert not sectors & self.released
        for sector in sectors:
            chunk = self.fixture.volume.chunk_map.find(sector)
            assert chunk.type & kind
            assert sector not in self.fixture.in_superblocks(chunk)
        self.used |= dict.fromkeys(sectors, kind)
        self.recorded = False

    @rule(count=st.integers(1, 90), longest=st.sampled_from([1, 16, 1000]))
    def allocate_data(self, count: int, longest: int) -> None:
        size = self.fixture.sector
        try:
            runs = self.space.allocate_data(count * size, longest=longest * size)
        except NoSpaceError:
            assert self._room(BlockGroup.DATA) < count
            return
        assert sum(run.length for run in runs) == count * size
        assert max(run.length for run in runs) <= longest * size
        for run in runs:
            assert run.logical + run.length <= self.fixture.volume.chunk_map.find(run.logical).end
            self._took(sectors_of(run, size), BlockGroup.DATA)

    @rule(count=st.integers(1, 40), kind=st.sampled_from([BlockGroup.METADATA, BlockGroup.SYSTEM]))
    def allocate_blocks(self, count: int, kind: BlockGroup) -> None:
        try:
            blocks = self.space.allocate_blocks(kind, count)
        except NoSpaceError:
            assert self._room(kind) < count
            return
        assert len(set(blocks)) == count
        self._took(set(blocks), kind)

    def _room(self, kind: int) -> int:
        """Return how many sectors could still be given out without another chunk."""
        free: set[int] = set()
        for chunk in self.fixture.volume.chunk_map:
            if chunk.type & kind:
                free |= sectors_of((chunk.logical, chunk.length), self.fixture.sector) - self.fixture.in_superblocks(
                    chunk
                )
        return len(free - self.used.keys() - self.released)

    @precondition(lambda self: self.fixture.volume.chunk_map)
    @rule(data=st.data(), count=st.integers(1, 20))
    def allocate_at(self, data: Any, count: int) -> None:
        size = self.fixture.sector
        chunk = data.draw(st.sampled_from(list(self.fixture.volume.chunk_map)))
        start = chunk.logical + size * data.draw(st.integers(0, chunk.length // size - 1))
        wanted = sectors_of((start, count * size), size)
        possible = (
            chunk.type & BlockGroup.DATA
            and start + count * size <= chunk.end
            and not wanted & self.used.keys()
            and not wanted & self.released
            and not wanted & self.fixture.in_superblocks(chunk)
        )
        if possible:
            assert self.space.allocate_data(count * size, at=start) == [(start, count * size)]
            self._took(wanted, BlockGroup.DATA)
        else:
            with pytest.raises(NoSpaceError, match="not all free space of one block group"):
                self.space.allocate_data(count * size, at=start)

    @precondition(lambda self: self.used)
    @rule(data=st.data(), most=st.integers(1, 60))
    def release(self, data: Any, most: int) -> None:
        size, at = self.fixture.sector, data.draw(st.sampled_from(sorted(self.used)))
        end = at
        chunk = self.fixture.volume.chunk_map.find(at)
        while end in self.used and end < min(chunk.end, at + most * size):
            end += size
        self.space.release(at, end - at)
        self.released |= sectors_of((at, end - at), size)
        for sector in range(at, end, size):
            del self.used[sector]
        self.recorded = False

    @rule()
    def record(self) -> None:
        self.space.record()
        self.recorded = True

    @rule(reopened=st.booleans(), bitmaps=st.booleans())
    def commit(self, reopened: bool, bitmaps: bool) -> None:
        self.record()
        self.space.committed()
        self.released = set()
        fixture = self.fixture
        if not reopened:
            return
        if not fixture.has_free_space_tree:
            self._write_extents()
        elif bitmaps:
            for chunk in fixture.volume.chunk_map:
                into_bitmaps(fixture, chunk)
        fixture.reopen()
        self.space = fixture.space

    def _write_extents(self) -> None:
        """Let the extent tree say what is in use, which is where free space is read from without a tree of its own."""
        tree = self.fixture.made.tree(TreeId.EXTENT_TREE)
        for key, _ in list(tree.items()):
            if key.type != ItemType.BLOCK_GROUP_ITEM:
                tree.delete(key)
        for sector, kind in self.used.items():
            data = Key(sector, ItemType.EXTENT_ITEM, self.fixture.sector)
            tree.put(data if kind == BlockGroup.DATA else Key(sector, ItemType.METADATA_ITEM, 0), b"")

    @invariant()
    def trees_say_what_is_so(self) -> None:
        if not getattr(self, "recorded", False):
            return
        fixture = self.fixture
        fixture.judge_devices()
        assert self.space.bytes_used == len(self.used) * fixture.sector
        for chunk in fixture.volume.chunk_map:
            mine = sectors_of((chunk.logical, chunk.length), fixture.sector) & self.used.keys()
            assert fixture.used_of(chunk) == len(mine) * fixture.sector
            if fixture.has_free_space_tree:
                assert fixture.free_of(chunk) == sectors_of((chunk.logical, chunk.length), fixture.sector) - mine


def into_bitmaps(fixture: Fixture, chunk: MappedChunk, sectors: int = 24) -> None:
    """Have the free space tree say in bitmaps, each of so many *sectors*, what it says of a chunk."""
    free, tree, size = fixture.free_of(chunk), fixture.made.tree(TreeId.FREE_SPACE_TREE), fixture.sector
    for key, _ in list(tree.items(Key(chunk.logical, 0, 0), Key(chunk.end - 1, 255, U64_MAX))):
        tree.delete(key)
    count = sum(sector - size not in free for sector in free)
    tree.put(Key(chunk.logical, ItemType.FREE_SPACE_INFO, chunk.length), FreeSpaceInfo(count, 1).pack())
    for start in range(chunk.logical, chunk.end, sectors * size):
        length = min(sectors * size, chunk.end - start)
        bits = sum(1 << (sector - start) // size for sector in free & sectors_of((start, length), size))
        payload = bits.to_bytes(-(-length // size // 8), "little")
        tree.put(Key(start, ItemType.FREE_SPACE_BITMAP, length), payload)


def test_any_sequence_is_as_in_a_set_of_sectors() -> None:
    run_state_machine_as_test(SpaceMachine, settings=settings(max_examples=60, stateful_step_count=20, deadline=None))
