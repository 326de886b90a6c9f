"""Device sets, and reading around what is missing or lies."""

from __future__ import annotations

import contextlib
import gc
import os
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.synthetic import (
    MIB,
    Spec,
    chunk,
    dev_item,
    fill_row,
    make_device,
    sealed,
    superblock,
    uuid,
    write_superblock,
)

from btrimg.errors import BtrimgError, CorruptError, DeviceError, UnsupportedError
from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, BlockGroup, Incompat, SuperFlag
from btrimg.ondisk.superblock import Superblock
from btrimg.volume.volume import Volume, open_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from btrimg.ondisk.chunks import Chunk

WIDTH = 5
LENGTH = 256  # bytes of each element that are filled; the parity model of the tests is slow
DEVIDS = range(1, WIDTH + 1)
ITEMS = [dev_item(devid, f"dev{devid}") for devid in DEVIDS]
SEEDING = 1 | SuperFlag.SEEDING
LOGICAL = 8 * MIB


def array_of(profile: int, directory: Path, width: int = WIDTH) -> tuple[list[str], dict[int, Chunk]]:
    chunks = {LOGICAL: chunk(profile, width, 40 * 3 * STRIPE_LEN)}
    return [make_device(directory, Spec(f"dev{devid}", devid), chunks) for devid in range(1, width + 1)], chunks


class Chunks(NamedTuple):
    """A chunk tree that was read; remembers what was asked for."""

    chunks: dict[int, Chunk]
    asked: list[int]

    def find(self, logical: int) -> tuple[int, Chunk] | None:
        self.asked.append(logical)
        start = max((start for start in self.chunks if start <= logical), default=None)
        return None if start is None else (start, self.chunks[start])

    def all(self) -> Iterable[tuple[int, Chunk]]:
        return self.chunks.items()


def opened(
    paths: Sequence[str], chunks: dict[int, Chunk], items: Any = ITEMS, **options: Any
) -> tuple[Volume, list[str]]:
    said: list[str] = []
    volume = open_volume(paths, warn=said.append, **options)
    try:
        volume.adopt(Chunks(chunks, []), items)
    except BaseException:
        volume.close()
        raise
    return volume, said


def overwrite(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


# RAID5 and RAID6


@pytest.mark.parametrize(("profile", "parity"), [(BlockGroup.RAID5, 1), (BlockGroup.RAID6, 2)])
def test_with_any_tolerated_devices_missing_every_byte_is_read(tmp_path: Path, profile: int, parity: int) -> None:
    paths, chunks = array_of(profile, tmp_path)
    data = [fill_row(paths, row, parity, row, LENGTH) for row in range(WIDTH)]
    for lost in combinations(range(WIDTH), parity):
        volume, said = opened([path for n, path in enumerate(paths) if n not in lost], chunks)
        with volume:
            for row, columns in enumerate(data):
                for column, expected in enumerate(columns):
                    logical = LOGICAL + (row * len(columns) + column) * STRIPE_LEN
                    assert volume.read(logical, LENGTH) == expected, (lost, row, column)
        assert sorted(message[:8] for message in said) == [f"device {n + 1}" for n in lost]


def test_one_device_too_many_is_missing(tmp_path: Path) -> None:
    paths, chunks = array_of(BlockGroup.RAID5, tmp_path)
    fill_row(paths, 0, 1, 0, LENGTH)
    with opened(paths[2:], chunks)[0] as volume:
        said = rf"{LENGTH} bytes at logical {LOGICAL} .* needs device 1, which is missing"
        with pytest.raises(DeviceError, match=said):
            volume.read(LOGICAL, LENGTH)
        with pytest.raises(DeviceError, match=said):
            next(volume.candidates(LOGICAL, LENGTH))
        assert len(volume.read(LOGICAL + 2 * STRIPE_LEN, LENGTH)) == LENGTH


@pytest.mark.parametrize(("profile", "parity"), [(BlockGroup.RAID5, 1), (BlockGroup.RAID6, 2)])
def test_with_any_tolerated_columns_lying_the_truth_is_among_the_candidates(
    tmp_path: Path, profile: int, parity: int
) -> None:
    paths, chunks = array_of(profile, tmp_path)
    for liars in combinations(range(WIDTH), parity):
        (first, *others) = fill_row(paths, 0, parity, 7, LENGTH)
        for liar in liars:
            overwrite(paths[liar], (liar + 1) * MIB, bytes([liar + 1]) * LENGTH)
        with opened(paths, chunks)[0] as volume:
            for column, expected in enumerate([first, *others]):
                found = list(volume.candidates(LOGICAL + column * STRIPE_LEN, LENGTH))
                assert expected in found, (liars, column)
                assert (found[0] == expected) is (column not in liars)
                assert len(set(found)) == len(found)
                assert len(found) <= WIDTH


def test_a_lie_and_a_missing_device_of_raid6(tmp_path: Path) -> None:
    paths, chunks = array_of(BlockGroup.RAID6, tmp_path)
    data = fill_row(paths, 0, 2, 3, LENGTH)
    overwrite(paths[0], MIB, b"x" * LENGTH)
    for missing in (1, 2, 3, 4):
        with opened([path for n, path in enumerate(paths) if n != missing], chunks)[0] as volume:
            assert data[0] in list(volume.candidates(LOGICAL, LENGTH)), missing


def test_agreeing_columns_give_one_candidate(tmp_path: Path) -> None:
    paths, chunks = array_of(BlockGroup.RAID6, tmp_path)
    data = fill_row(paths, 2, 2, 5, LENGTH)
    with opened(paths, chunks)[0] as volume:
        assert list(volume.candidates(LOGICAL + 2 * 3 * STRIPE_LEN, LENGTH)) == [data[0]]


# Mirrors


def test_copies_come_in_order_and_fall_back(tmp_path: Path) -> None:
    paths, chunks = array_of(BlockGroup.RAID1C3, tmp_path, 3)
    for n, text in enumerate((b"first", b"other", b"first")):
        overwrite(paths[n], (n + 1) * MIB + 70000, text)
    with opened(paths, chunks, ITEMS[:3])[0] as volume:
        assert list(volume.candidates(LOGICAL + 70000, 5)) == [b"first", b"other"]
    volume, said = opened(paths[1:], chunks, ITEMS[:3])
    with volume:
        assert volume.read(LOGICAL + 70000, 5) == b"other"
        assert list(volume.devices) == [2, 3]
    assert said == [f"device 1 ({'-'.join(_groups(uuid('dev1').hex()))}) is missing; if you have it, give it too (-d)"]


def _groups(digits: str) -> list[str]:
    return [digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]]


def test_pieces_are_joined_across_elements_and_chunks(tmp_path: Path) -> None:
    chunks = {LOGICAL: chunk(BlockGroup.RAID10, 4, 2 * STRIPE_LEN), LOGICAL + 2 * STRIPE_LEN: chunk(0, 1, MIB)}
    paths = [make_device(tmp_path, Spec(f"dev{devid}", devid), chunks) for devid in range(1, 5)]
    for n in range(4):
        overwrite(paths[n], (n + 1) * MIB, bytes([n // 2 + 65]) * STRIPE_LEN)
    with opened(paths, chunks, ITEMS[:4])[0] as volume:
        joined = volume.read(LOGICAL + STRIPE_LEN - 2, STRIPE_LEN + 5)
        assert joined == b"AA" + b"B" * STRIPE_LEN + b"AAA"
        assert list(volume.candidates(LOGICAL + STRIPE_LEN - 2, STRIPE_LEN + 5)) == [joined]
        overwrite(paths[2], 3 * MIB, b"c" * STRIPE_LEN)
        found = list(volume.candidates(LOGICAL + STRIPE_LEN - 2, 4))
        assert found == [b"AAcc", b"AABB"], "the second candidate of one piece joins the first of the other"
        with pytest.raises(CorruptError, match=f"{LOGICAL + 2 * STRIPE_LEN + MIB} lies in no chunk"):
            volume.read(LOGICAL + MIB, 2 * MIB)


def test_a_device_that_was_away_is_read_last(tmp_path: Path) -> None:
    paths, chunks = array_of(BlockGroup.RAID1, tmp_path, 2)
    write_superblock(paths[0], superblock(Spec("dev1", 1), chunks, generation=5))
    overwrite(paths[0], MIB, b"old")
    overwrite(paths[1], 2 * MIB, b"new")
    for order in (paths, paths[::-1]):
        volume, said = opened(order, chunks, ITEMS[:2])
        with volume:
            assert volume.superblock.generation == 10
            assert list(volume.candidates(LOGICAL, 3)) == [b"new", b"old"]
        assert said == [f"{paths[0]} is of generation 5, its filesystem of 10: the device was away, and is read last"]


@pytest.mark.parametrize("other", [1, 2, 3, 4], ids=["data", "data", "P", "Q"])
def test_a_column_that_was_away_is_rebuilt_first(tmp_path: Path, other: int) -> None:
    paths, chunks = array_of(BlockGroup.RAID6, tmp_path)
    data = fill_row(paths, 0, 2, 1, LENGTH)
    for n in (0, other):
        write_superblock(paths[n], superblock(Spec(f"dev{n + 1}", n + 1), chunks, generation=5))
        overwrite(paths[n], (n + 1) * MIB, b"stale")
    with opened(paths, chunks)[0] as volume:
        assert volume.read(LOGICAL, LENGTH) == data[0]
        assert list(volume.candidates(LOGICAL, LENGTH))[-1][:5] == b"stale"


def test_a_truncated_device_is_read_around_with_a_warning(tmp_path: Path) -> None:
    paths, chunks = array_of(BlockGroup.RAID1, tmp_path, 2)
    overwrite(paths[1], 2 * MIB, b"here")
    os.truncate(paths[0], MIB)
    volume, said = opened(paths, chunks, ITEMS[:2])
    with volume:
        assert volume.read(LOGICAL, 4) == b"here"
    assert said == [f"{paths[0]} ends at {MIB}: no 4 bytes at {MIB}"]


# Device sets


def test_files_in_any_order_and_devids_with_gaps(tmp_path: Path) -> None:
    chunks = {0: chunk(BlockGroup.RAID0, 3, 3 * MIB, devids=(9, 2, 700))}
    devids = (700, 9, 2)
    paths = [make_device(tmp_path, Spec(f"dev{devid}", devid), chunks) for devid in devids]
    with opened(paths, chunks, [dev_item(devid, f"dev{devid}") for devid in devids])[0] as volume:
        assert {devid: device.path for devid, device in volume.devices.items()} == dict(zip(devids, paths, strict=True))


def test_one_file_twice(tmp_path: Path) -> None:
    paths, _ = array_of(0, tmp_path, 1)
    link = tmp_path / "link"
    link.symlink_to(paths[0])
    with pytest.raises(DeviceError, match="are one file"):
        open_volume([paths[0], str(link)], warn=pytest.fail)


def test_two_copies_of_a_device(tmp_path: Path) -> None:
    chunks = {0: chunk(0, 1, MIB)}
    new, old = (make_device(tmp_path, Spec("dev1", 1, generation=generation), chunks) for generation in (12, 11))
    volume, said = opened([old, new], chunks, ITEMS[:1])
    with volume:
        assert volume.devices[1].path == new
    assert said == [f"{old} (generation 11) is an older copy of {new} (generation 12): ignored"]
    write_superblock(old, superblock(Spec("dev1", 1, generation=12), chunks))
    with pytest.raises(DeviceError, match=r"are both device 1, .* of generation 12"):
        open_volume([old, new], warn=pytest.fail)


def test_unrelated_filesystems(tmp_path: Path) -> None:
    chunks = {0: chunk(0, 1, MIB)}
    paths = [make_device(tmp_path, Spec(f"dev{n}", n, fs=fs), chunks) for n, fs in ((1, "one"), (2, "two"))]
    with pytest.raises(DeviceError) as caught:
        open_volume(paths, warn=pytest.fail)
    for fs in ("one", "two"):
        assert "-".join(_groups(uuid(fs).hex())) in str(caught.value)


def seed_stack(directory: Path, top_flags: int) -> tuple[list[str], dict[int, Chunk]]:
    """Make a seed below a seed below a sprout; the chunk of the lowest is still in use."""
    chunks = {0: chunk(0, 1, MIB, devids=(1,)), MIB: chunk(0, 1, MIB, devids=(3,))}
    specs = (
        Spec("dev1", 1, "low", 5, SEEDING),
        Spec("dev2", 2, "middle", 8, SEEDING),
        Spec("dev3", 3, "top", 11, top_flags),
    )
    return [make_device(directory, spec, chunks) for spec in specs], chunks


@pytest.mark.parametrize("top_flags", [1, SEEDING], ids=["sprout", "seed on top"])
def test_a_stack_of_seeds(tmp_path: Path, top_flags: int) -> None:
    paths, chunks = seed_stack(tmp_path, top_flags)
    overwrite(paths[0], MIB, b"from the seed")
    items = [dev_item(1, "dev1", "low"), dev_item(2, "dev2", "middle"), dev_item(3, "dev3")]
    for order in (paths, paths[::-1], [paths[1], paths[2], paths[0]]):
        volume, said = opened(order, chunks, items)
        with volume:
            assert volume.superblock.fsid == uuid("top")
            assert volume.read(0, 13) == b"from the seed"
            assert sorted(volume.devices) == [1, 2, 3]
            assert volume.fsids == {uuid("low"), uuid("middle"), uuid("top")}
        assert said == []
    with opened(paths[2:], chunks, items)[0] as volume:
        assert volume.fsids == {uuid("low"), uuid("middle"), uuid("top")}, "the device items name the seeds"


def test_a_seed_that_belongs_to_another_sprout(tmp_path: Path) -> None:
    paths, chunks = seed_stack(tmp_path, 1)
    stranger = make_device(tmp_path, Spec("dev9", 1, "stranger", 3, SEEDING), chunks)
    with pytest.raises(DeviceError, match=f"{stranger} belongs to filesystem .* no seed of"):
        opened([*paths, stranger], chunks, [dev_item(n, f"dev{n}") for n in (1, 2, 3)])


def test_a_device_that_is_no_longer_in_the_filesystem(tmp_path: Path) -> None:
    chunks = {0: chunk(0, 1, MIB)}
    paths = [make_device(tmp_path, Spec(f"dev{n}", n), chunks) for n in (1, 2)]
    volume, said = opened(paths, chunks, ITEMS[:1])
    with volume:
        assert list(volume.devices) == [1]
    assert len(said) == 1
    assert f"{paths[1]} claims to be device 2" in said[0]


def test_a_device_whose_uuid_was_lost_is_known_by_its_devid(tmp_path: Path) -> None:
    chunks = {0: chunk(0, 1, MIB)}
    path = make_device(tmp_path, Spec("lost", 1), chunks)
    with opened([path], chunks, ITEMS[:1])[0] as volume:
        assert volume.devices[1].path == path


def test_a_damaged_chunk_tree_leaves_the_system_chunks_and_the_claims(tmp_path: Path) -> None:
    chunks = {0: chunk(0, 1, MIB)}
    paths = [make_device(tmp_path, Spec(f"dev{n}", n), chunks) for n in (1, 2)]
    with opened(paths, {}, [])[0] as volume:
        assert sorted(volume.devices) == [1, 2]
        assert [mapped.logical for mapped in volume.chunk_map] == [0]


def test_a_changed_fsid_holds_the_devices_together(tmp_path: Path) -> None:
    chunks = {0: chunk(BlockGroup.RAID0, 2, MIB)}
    done = {"metadata_uuid": uuid("top"), "incompat_flags": int(Incompat.METADATA_UUID)}
    paths = [
        make_device(tmp_path, Spec("dev1", 1, "new", 11), chunks, dev_item=ITEMS[0], **done),
        make_device(tmp_path, Spec("dev2", 2, "top", 10, 1 | SuperFlag.CHANGING_FSID_V2), chunks),
    ]
    volume, said = opened(paths, chunks, ITEMS[:2])
    with volume:
        assert (volume.superblock.fsid, volume.metadata_fsid) == (uuid("new"), uuid("top"))
        assert sorted(volume.devices) == [1, 2]
    assert [message.partition(" is of ")[0] for message in said] == [paths[1]]


def test_the_target_of_a_replacement_is_ignored(tmp_path: Path) -> None:
    chunks = {0: chunk(0, 1, MIB)}
    source, target = (make_device(tmp_path, Spec(name, devid), chunks) for name, devid in (("dev1", 1), ("new", 0)))
    volume, said = opened([target, source], chunks, ITEMS[:1])
    with volume:
        assert volume.devices[1].path == source
    assert said == [f"{target} is the target of an unfinished device replacement: ignored"]
    with pytest.raises(DeviceError, match="none of the files"):
        open_volume([target], warn=said.append)


def test_features_are_those_of_the_top(tmp_path: Path) -> None:
    path = make_device(tmp_path, Spec("dev1", 1), {0: chunk(0, 1, MIB)}, incompat_flags=1 << 50)
    with pytest.raises(UnsupportedError, match="bit 50"):
        open_volume([path], warn=pytest.fail)
    open_volume([path], warn=pytest.fail, force=True).close()


def test_nothing_stays_open_after_a_refusal(tmp_path: Path) -> None:
    paths, chunks = seed_stack(tmp_path, 1)
    make_device(tmp_path, Spec("dev1", 1, "low", 4, SEEDING), chunks)
    make_device(tmp_path, Spec("target", 0), chunks)
    gc.collect()  # else others' descriptors may go meanwhile
    before = os.listdir("/proc/self/fd")
    for wrong in ([*paths, "/nonexistent"], [*paths, paths[0]], [*paths, str(tmp_path)]):
        with pytest.raises(DeviceError):
            open_volume(wrong, warn=pytest.fail)
    open_volume([str(each) for each in sorted(tmp_path.iterdir())], warn=lambda _: None).close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_each_warning_comes_once_and_a_hundred_at_most(tmp_path: Path) -> None:
    paths, chunks = array_of(0, tmp_path, 1)
    volume, said = opened(paths, chunks, ITEMS[:1])
    with volume:
        for n in range(300):
            volume.warn(f"message {n // 2}")
    assert said == [*(f"message {n}" for n in range(100)), "there are more warnings, which are not shown"]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_superblock_of_lies_gives_a_clean_error_or_bytes(tmp_path: Path, data: st.DataObject) -> None:
    """Flip bytes, most of them among the fields and the system chunks, and make the checksum right again."""
    path = make_device(tmp_path, Spec("dev1", 1), {LOGICAL: chunk(BlockGroup.RAID6, 3, MIB, devids=(1, 1, 1))})
    with open(path, "rb") as file:
        file.seek(SUPERBLOCK_OFFSETS[0])
        raw = bytearray(file.read(4096))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.one_of(st.integers(32, 620), st.integers(811, 1000)))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BtrimgError):
        overwrite(path, SUPERBLOCK_OFFSETS[0], sealed(Superblock.unpack(raw)))
        with open_volume([path], warn=lambda _: None, force=True) as volume:
            for mapped in volume.chunk_map:
                for logical in (mapped.logical, mapped.end - 1):
                    assert all(len(found) == 1 for found in volume.candidates(logical, 1))
