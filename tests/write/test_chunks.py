"""New chunks: on blank devices of different sizes in every profile, until all are full, and beside the kernel's own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support.blank import MIB, Blank, sectors_of
from support.images import DEVICES

from btrimg.errors import CorruptError, NoSpaceError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import DevExtent, sys_chunks
from btrimg.ondisk.constants import BlockGroup, ItemType, TreeId
from btrimg.volume.profiles import PROFILES
from btrimg.write.chunks import Policy, policy_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from btrimg.volume.chunkmap import MappedChunk

GIB = 1 << 30
DATA, METADATA, SYSTEM = int(BlockGroup.DATA), int(BlockGroup.METADATA), int(BlockGroup.SYSTEM)
DUP, RAID0, RAID1 = int(BlockGroup.DUP), int(BlockGroup.RAID0), int(BlockGroup.RAID1)
#: Devids in the first chunk of each profile, of devices that are larger the higher their devid: most room first.
FIRST_CHUNK = {
    "single": [1],
    "dup": [1, 1],
    "raid0": [3, 2, 1],
    "raid1": [3, 2],
    "raid1c3": [4, 3, 2],
    "raid1c4": [5, 4, 3, 2],
    "raid5": [4, 3, 2, 1],
    "raid6": [5, 4, 3, 2, 1],
    "raid10": [6, 5, 4, 3, 2, 1],
}


def chunks_of(fixture: Blank) -> list[MappedChunk]:
    return list(fixture.volume.chunk_map)


@pytest.mark.parametrize("profile", DEVICES)
def test_devices_are_filled_to_the_last_sector(profile: str, tmp_path: Path) -> None:
    """Nothing is given out twice or where a superblock lies, and nothing else is left over."""
    fixture = Blank(str(tmp_path), profile)
    space, rng = fixture.space, random.Random(profile)
    used = {SYSTEM: set(space.allocate_blocks(BlockGroup.SYSTEM, 3))}
    used[METADATA] = set(space.allocate_blocks(BlockGroup.METADATA, 100))
    assert [stripe.devid for stripe in chunks_of(fixture)[0].stripes] == FIRST_CHUNK[profile]
    used[DATA] = set()
    size = 16 * MIB
    while size:
        try:
            runs = space.allocate_data(size)
        except NoSpaceError:
            size //= 4 if size > 4096 else 8192
            continue
        for run in runs:
            sectors = sectors_of(run, 4096)
            assert not sectors & used[DATA]
            used[DATA] |= sectors
        if rng.random() < 0.2:
            space.record()
    space.record()
    fixture.judge_devices(space.device_items())
    for chunk in chunks_of(fixture):
        everything, kept = sectors_of((chunk.logical, chunk.length), 4096), fixture.in_superblocks(chunk)
        if chunk.type & BlockGroup.DATA:
            assert used[DATA] & everything == everything - kept
            assert fixture.free_of(chunk) == kept
            assert fixture.used_of(chunk) == 4096 * len(everything - kept)
    unallocated = [item.total_bytes - item.bytes_used - MIB for item in space.device_items().values()]
    least = PROFILES[chunks_of(fixture)[0].type & ~7].min_stripes // (2 if profile == "dup" else 1)
    assert sum(room >= 2 * MIB for room in unallocated) < least, "a chunk of more than a MiB would still go"
    assert sum(map(bool, map(fixture.in_superblocks, chunks_of(fixture)))) >= 1


@pytest.mark.parametrize("features", [("^block-group-tree",), ("^free-space-tree", "^block-group-tree")])
@pytest.mark.parametrize("profile", ["single", "raid6"])
def test_places_of_superblocks_are_kept_when_space_is_loaded(
    profile: str, features: Sequence[str], tmp_path: Path
) -> None:
    fixture = Blank(tmp_path, profile, features=features)
    fixture.space.provide(BlockGroup.DATA)
    while not any(map(fixture.in_superblocks, chunks_of(fixture))):
        fixture.space.release(*fixture.space.allocate_data(4096, at=chunks_of(fixture)[-1].end + MIB)[0])
    fixture.space.record()
    fixture.space.committed()
    fixture.reopen()
    kept = set().union(*map(fixture.in_superblocks, chunks_of(fixture)))
    for sector in kept:
        with pytest.raises(NoSpaceError):
            fixture.space.allocate_data(4096, at=sector)
    beside = {sector + step for sector in kept for step in (-4096, 4096)} - kept
    assert all(fixture.space.allocate_data(4096, at=sector) for sector in beside)


def test_full_devices_are_told_with_their_numbers(tmp_path: Path) -> None:
    space = Blank(tmp_path, "raid1", sizes=[32 * MIB, 48 * MIB]).space
    with pytest.raises(NoSpaceError) as error:
        space.allocate_data(200 * MIB)
    assert str(error.value) == (
        "the devices are full: no room for 209715200 bytes of data (raid1); device 1 has 0 of 33554432 bytes"
        " unallocated, device 2 has 16777216 of 50331648 bytes unallocated"
    )
    assert space.bytes_used == 0
    space.record()
    assert sum(run.length for run in space.allocate_data(31 * MIB)) == 31 * MIB, "nothing was kept"


@pytest.mark.parametrize(
    ("total", "data", "metadata", "system"),
    [
        (64 * MIB, 7 * MIB, 7 * MIB, 4 * MIB),
        (GIB, 103 * MIB, 103 * MIB, 11 * MIB),
        (20 * GIB, GIB, 256 * MIB, 32 * MIB),
        (100 * GIB, GIB, GIB, 32 * MIB),
    ],
)
def test_chunks_are_as_large_as_suits_the_filesystem(
    total: int, data: int, metadata: int, system: int, tmp_path: Path
) -> None:
    fixture = Blank(str(tmp_path), "single", sizes=[total])
    for kind in (BlockGroup.DATA, BlockGroup.METADATA, BlockGroup.SYSTEM):
        fixture.space.provide(kind)
        fixture.space.provide(kind)
    assert [(chunk.type, chunk.length) for chunk in chunks_of(fixture)] == [
        (DATA, data),
        (METADATA, metadata),
        (SYSTEM, system),
    ]
    assert [chunk.logical for chunk in chunks_of(fixture)] == [MIB, MIB + data, MIB + data + metadata]


def test_mixed_block_groups_serve_data_and_metadata(tmp_path: Path) -> None:
    fixture = Blank(str(tmp_path), "dup", mixed=True)
    (run,) = fixture.space.allocate_data(4096)
    assert fixture.space.allocate_blocks(BlockGroup.METADATA, 2) == [run.logical + 4096, run.logical + 8192]
    assert [chunk.type for chunk in chunks_of(fixture)] == [DATA | METADATA | DUP]


def test_system_chunks_are_those_of_the_superblock(tmp_path: Path) -> None:
    """There may be no more of them than the superblock has room for."""
    fixture = Blank(str(tmp_path), "raid0", sizes=[400 * MIB] * 3, nodesize=65536)
    with pytest.raises(NoSpaceError, match="the superblock has no room for another system chunk"):
        fixture.space.allocate_blocks(BlockGroup.SYSTEM, 10_000)
    array = fixture.space.sys_chunk_array()
    assert 2048 - 161 < len(array) <= 2048
    found = [(key.offset, chunk.length, chunk.stripes) for key, chunk in sys_chunks(array)]
    assert found == [(chunk.logical, chunk.length, chunk.stripes) for chunk in chunks_of(fixture)]


def test_a_place_beyond_all_chunks_is_reached_by_new_ones(tmp_path: Path) -> None:
    fixture = Blank(str(tmp_path), "single")
    fixture.space.allocate_blocks(BlockGroup.METADATA, 1)
    at = 40 * MIB
    assert fixture.space.allocate_data(8192, at=at, longest=4096) == [(at, 4096), (at + 4096, 4096)]
    assert [chunk.type for chunk in chunks_of(fixture)] == [METADATA, *[DATA] * (len(chunks_of(fixture)) - 1)]
    with pytest.raises(NoSpaceError, match="the devices are full"):
        fixture.space.allocate_data(4096, at=200 * MIB)
    with pytest.raises(NoSpaceError, match="data cannot lie at logical 4097: take a multiple of 4096"):
        fixture.space.allocate_data(4096, at=4097)
    with pytest.raises(NoSpaceError, match="logical 1152921504606846976 is more than 1099511627776 bytes behind all"):
        fixture.space.allocate_data(4096, at=1 << 60)
    for taken in (at, at - 4096, MIB, 0):
        with pytest.raises(NoSpaceError, match=f"the 8192 bytes at logical {taken} are not all free space"):
            fixture.space.allocate_data(8192, at=taken)


def test_a_device_is_cut_behind_its_last_chunk(tmp_path: Path) -> None:
    fixture = Blank(str(tmp_path), "raid1", sizes=[100 * MIB, 200 * MIB, 300 * MIB])
    space = fixture.space
    space.allocate_data(4096)
    ends = [space.end_of(devid) for devid in (1, 2, 3)]
    assert ends[0] == MIB
    assert ends[1] == ends[2] == MIB + chunks_of(fixture)[0].length
    assert [space.shrink(1), space.shrink(2, 5000), space.shrink(3, GIB)] == [MIB, ends[1] + 8192, 300 * MIB]
    assert space.total_bytes == sum(item.total_bytes for item in space.device_items().values())
    space.record()
    fixture.judge_devices(space.device_items())
    with pytest.raises(NoSpaceError, match=r"device 2 has 8192 of \d+ bytes unallocated"):
        space.allocate_data(GIB)


def test_what_is_given_back_is_found_before_later_block_groups(tmp_path: Path) -> None:
    space = Blank(tmp_path, "single").space
    runs = space.allocate_data(20 * MIB)
    assert len(runs) > 2
    space.release(runs[0].logical + MIB, 8192)
    assert space.allocate_data(8192)[0].logical >= runs[-1].logical
    space.record()
    space.committed()
    assert space.allocate_data(8192) == [(runs[0].logical + MIB, 8192)]


def test_chunks_go_behind_device_extents_that_hold_others(tmp_path: Path) -> None:
    """No kernel leaves such extents; what lies in the longer one must stay all the same."""
    fixture = Blank(tmp_path, "single")
    for start, length in ((MIB, 40 * MIB), (2 * MIB, MIB)):
        extent = DevExtent(TreeId.CHUNK_TREE, 256, 0, length, bytes(16))
        fixture.tree(TreeId.DEV_TREE).put(Key(1, ItemType.DEV_EXTENT, start), extent.pack())
    fixture.space.provide(BlockGroup.DATA)
    assert [stripe.offset for stripe in chunks_of(fixture)[0].stripes] == [41 * MIB]


def test_what_was_free_cannot_be_released(tmp_path: Path) -> None:
    space = Blank(str(tmp_path), "single").space
    (run,) = space.allocate_data(8192)
    space.release(run.logical, 4096)
    space.record()
    space.release(run.logical, 4096)
    with pytest.raises(CorruptError, match="bytes of block group 1048576 are to be free that are so already"):
        space.record()
    with pytest.raises(CorruptError, match="the 4096 bytes at logical 0 lie in no block group"):
        space.release(0, 4096)


@pytest.mark.parametrize(
    ("types", "devices", "expected"),
    [
        ([], 1, Policy(0, 0, 0)),
        ([DATA, METADATA | DUP, SYSTEM | DUP], 1, Policy(0, DUP, DUP)),
        ([DATA, DATA | RAID0, METADATA, METADATA | RAID1, METADATA | DUP], 2, Policy(RAID0, RAID1, 0)),
        ([DATA | RAID0, METADATA | RAID1 | DUP, SYSTEM | RAID1], 1, Policy(RAID0, DUP, 0)),
    ],
)
def test_new_block_groups_are_as_the_kernel_would_make_them(
    types: list[int], devices: int, expected: Policy, tmp_path: Path
) -> None:
    made = Blank(tmp_path, "single")
    made.space.allocate_blocks(BlockGroup.METADATA, 1)
    (chunk,) = chunks_of(made)
    assert policy_of((chunk._replace(type=each) for each in types), devices, mixed=False) == expected
    assert made.tree(TreeId.CHUNK_TREE).pending == 1, "the device; the chunk is not recorded yet"
