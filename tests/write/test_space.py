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
from support.blank import Blank, sectors_of
from support.images import DEVICES

from btrimg.errors import NoSpaceError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceInfo
from btrimg.ondisk.constants import U64_MAX, BlockGroup, ItemType, TreeId
from btrimg.write import freeruns

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.volume.chunkmap import MappedChunk

FEATURES = ("^block-group-tree",), (), ("^free-space-tree", "^block-group-tree")


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
        self.fixture = Blank(
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

    @rule(known=st.booleans())
    def record(self, known: bool) -> None:
        """Record; the extent tree may know what happened by then, or not yet."""
        if known:
            self._write_extents()
        self.space.record()
        self.recorded = True

    @rule(reopened=st.booleans(), bitmaps=st.booleans())
    def commit(self, reopened: bool, bitmaps: bool) -> None:
        self.record(known=True)
        self.space.committed()
        self.released = set()
        fixture = self.fixture
        if not reopened:
            return
        if fixture.has_free_space_tree and bitmaps:
            for chunk in fixture.volume.chunk_map:
                into_bitmaps(fixture, chunk)
        fixture.reopen()
        self.space = fixture.space

    def _write_extents(self) -> None:
        """Let the extent tree say what is in use, which is where free space is read from without a tree of its own."""
        tree = self.fixture.tree(TreeId.EXTENT_TREE)
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
        fixture.judge_devices(self.space.device_items())
        assert self.space.bytes_used == len(self.used) * fixture.sector
        for chunk in fixture.volume.chunk_map:
            mine = sectors_of((chunk.logical, chunk.length), fixture.sector) & self.used.keys()
            assert fixture.used_of(chunk) == len(mine) * fixture.sector
            if fixture.has_free_space_tree:
                assert fixture.free_of(chunk) == sectors_of((chunk.logical, chunk.length), fixture.sector) - mine


def into_bitmaps(fixture: Blank, chunk: MappedChunk, sectors: int = 24) -> None:
    """Have the free space tree say in bitmaps, each of so many *sectors*, what it says of a chunk."""
    free, tree, size = fixture.free_of(chunk), fixture.tree(TreeId.FREE_SPACE_TREE), fixture.sector
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


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_was_released_before_it_was_read_waits_for_the_commit(
    recorded: bool, features: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a block group of which nothing was needed before: free in the trees, or soon so, and not to be given out."""
    monkeypatch.setattr(freeruns, "_NEIGHBOURS", 1)  # so that holes are taken first
    fixture = Blank(tmp_path, "single", features=features)
    blocks = fixture.space.allocate_blocks(BlockGroup.METADATA, 9)
    fixture.space.record()
    for block in blocks:
        fixture.tree(TreeId.EXTENT_TREE).put(Key(block, ItemType.METADATA_ITEM, 0), b"")
    fixture.space.committed()
    fixture.reopen()
    size = fixture.volume.nodesize
    fixture.space.release(blocks[3], size)
    if recorded:
        fixture.space.record()
        fixture.tree(TreeId.EXTENT_TREE).delete(Key(blocks[3], ItemType.METADATA_ITEM, 0))
    assert fixture.space.allocate_blocks(BlockGroup.METADATA, 2) == [blocks[8] + size, blocks[8] + 2 * size]
    fixture.space.record()
    fixture.space.committed()
    assert fixture.space.allocate_blocks(BlockGroup.METADATA, 2) == [blocks[3], blocks[8] + 3 * size]
