"""Which copy of the superblock is taken, and what keeps an image from being opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from support.synthetic import SIZE, Spec, chunk, make_device, sealed, superblock, write_superblock

from btrimg.errors import BtrimgError, CorruptError, UnsupportedError
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, Incompat, SuperFlag
from btrimg.volume.device import Device
from btrimg.volume.superblocks import check_features, choose, has_superblock, metadata_fsid, read_copies, uuid_text

if TYPE_CHECKING:
    from pathlib import Path

SPEC = Spec("dev1", 1)
CHUNKS = {0: chunk(0, 1, 4 << 20), 4 << 20: chunk(1 << 5, 2, 4 << 20)}
SUPERBLOCK = superblock(SPEC, CHUNKS)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return make_device(tmp_path, SPEC, CHUNKS)


def faults(path: str) -> list[str | None]:
    with Device(path) as device:
        return [copy.fault for copy in read_copies(device)]


def chosen(path: str) -> tuple[int, list[str]]:
    """Return the generation of the superblock that is chosen, and the warnings."""
    said: list[str] = []
    with Device(path) as device:
        generation: int = choose(device, said.append).generation
    return generation, said


def test_the_primary_is_taken_without_a_word(path: str) -> None:
    assert faults(path) == [None, None]
    write_superblock(path, superblock(SPEC, CHUNKS, generation=99), [1])
    assert chosen(path) == (10, [])


@pytest.mark.parametrize("at", [0, 31, 64, 200, 4095])
def test_a_bad_primary_gives_way_to_the_mirror(path: str, at: int) -> None:
    write_superblock(path, superblock(SPEC, CHUNKS, generation=99), [1])
    with open(path, "r+b") as file:
        file.seek(SUPERBLOCK_OFFSETS[0] + at)
        old = file.read(1)[0]
        file.seek(SUPERBLOCK_OFFSETS[0] + at)
        file.write(bytes([old ^ 4]))
    if at == 31:  # crc32c fills four of the 32 bytes
        assert chosen(path) == (10, [])
        return
    generation, said = chosen(path)
    assert generation == 99
    assert len(said) == 1
    assert "the primary superblock is bad" in said[0]
    assert "mirror 1 is used" in said[0]


def test_the_newest_mirror_is_taken(tmp_path: Path) -> None:
    path = make_device(tmp_path, SPEC, CHUNKS)
    with open(path, "r+b") as file:
        file.truncate(SUPERBLOCK_OFFSETS[2] + 4096)  # sparse
    for mirror, generation in ((1, 30), (2, 20)):
        write_superblock(path, superblock(SPEC, CHUNKS, generation=generation), [mirror])
    with open(path, "r+b") as file:
        file.seek(SUPERBLOCK_OFFSETS[0])
        file.write(bytes(4096))
    assert len(faults(path)) == 3
    assert chosen(path)[0] == 30


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nodesize": 12288}, "node size 12288"),
        ({"nodesize": 2048}, "node size 2048"),
        ({"nodesize": 131072}, "node size 131072"),
        ({"nodesize": 0}, "node size 0"),
        ({"sectorsize": 256}, "sector size 256"),
        ({"sectorsize": 0}, "sector size 0"),
        ({"root_level": 8}, "a root of level 8"),
        ({"chunk_root_level": 255}, "a root of level 255"),
        ({"log_root_level": 9}, "a root of level 9"),
        ({"sys_chunk_array_size": 2049}, "system chunks take 2049 bytes"),
        ({"sys_chunk_array_size": 0}, "no system chunks"),
        ({"sys_chunk_array_size": 100}, "system chunks are cut short"),
        ({"sys_chunk_array": bytes(2048), "sys_chunk_array_size": 130}, "system chunks hold an item of type 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_nothing_could_be_read_by_is_a_fault(path: str, changes: dict[str, Any], sentence: str) -> None:
    write_superblock(path, superblock(SPEC, CHUNKS, **changes))
    for fault in faults(path):
        assert sentence in str(fault)
    with pytest.raises(CorruptError, match=rf"no sound btrfs superblock in .*{sentence}"):
        chosen(path)


def test_a_copy_in_the_wrong_place_is_no_superblock(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(SUPERBLOCK_OFFSETS[0])
        file.write(sealed(SUPERBLOCK.replace(bytenr=SUPERBLOCK_OFFSETS[1])))
    assert faults(path) == [f"it says that it stands at {64 << 20}, not {64 << 10}", None]


@pytest.mark.parametrize("csum_type", [0, 1, 2, 3])
def test_every_checksum_is_verified(path: str, csum_type: int) -> None:
    write_superblock(path, superblock(SPEC, CHUNKS, csum_type=csum_type))
    assert faults(path) == [None, None]
    with open(path, "r+b") as file:
        file.seek(SUPERBLOCK_OFFSETS[1] + 4000)
        file.write(b"\1")
    primary, mirror = faults(path)
    assert primary is None
    assert "it says" in str(mirror)


def test_an_unknown_checksum_type_is_not_corrupt_but_unsupported(path: str) -> None:
    for mirror in (0, 1):
        with open(path, "r+b") as file:
            file.seek(SUPERBLOCK_OFFSETS[mirror])
            file.write(SUPERBLOCK.replace(bytenr=SUPERBLOCK_OFFSETS[mirror], csum_type=7).pack())
    with pytest.raises(UnsupportedError, match="checksum type 7 is not known"):
        chosen(path)


@pytest.mark.parametrize("size", [0, 65536, 65536 + 4095, 65536 + 4096, SIZE])
def test_no_superblock_at_all(tmp_path: Path, size: int) -> None:
    path = tmp_path / "zeros"
    with open(path, "wb") as file:
        file.truncate(size)
    with pytest.raises(CorruptError, match=f"no btrfs superblock in {path}"):
        chosen(str(path))
    assert not has_superblock(str(path))


def test_has_superblock(path: str, tmp_path: Path) -> None:
    assert has_superblock(path)
    assert not has_superblock(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"total_bytes": 0}, "1048576 of 0 bytes are used"),
        ({"num_devices": 0}, "counts no devices"),
        ({"log_root": 5000}, "log_root 5000"),
        ({"chunk_root_generation": 11}, "generation 11 is above 10"),
        ({"flags": 1 | SuperFlag.CHANGING_META_CSUM}, "CHANGING_META_CSUM"),
        ({"flags": 0x81}, "bit 7"),
        ({"metadata_uuid": b"m" * 16, "incompat_flags": Incompat.METADATA_UUID}, "device item belongs to"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_contradicts_itself_but_hinders_nobody_is_told(path: str, changes: dict[str, Any], sentence: str) -> None:
    write_superblock(path, superblock(SPEC, CHUNKS, **changes))
    generation, said = chosen(path)
    assert generation == 10
    assert len(said) == 1
    assert sentence in said[0]


def with_features(flags: int) -> Any:
    return SUPERBLOCK.replace(incompat_flags=flags)


def test_every_feature_that_is_read_passes() -> None:
    refused = Incompat.ZONED | Incompat.EXTENT_TREE_V2 | Incompat.RAID_STRIPE_TREE | Incompat.REMAP_TREE
    check_features(with_features(sum(Incompat) & ~refused), force=False)


@pytest.mark.parametrize(
    ("flag", "name", "forcible"),
    [
        (Incompat.ZONED, "zoned", True),
        (Incompat.EXTENT_TREE_V2, "extent-tree-v2", True),
        (1 << 15 | 1 << 40, "bit 15 bit 40", True),
        (Incompat.RAID_STRIPE_TREE, "raid-stripe-tree", False),
        (Incompat.REMAP_TREE, "remap-tree", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_read_is_refused_by_name(flag: int, name: str, forcible: bool) -> None:
    block = with_features(flag | Incompat.MIXED_BACKREF)
    with pytest.raises(UnsupportedError, match=name):
        check_features(block, force=False)
    if forcible:
        check_features(block, force=True)
    else:
        with pytest.raises(UnsupportedError, match=rf"{name}.*--force does not help"):
            check_features(block, force=True)


def test_the_fsid_of_tree_blocks() -> None:
    changed = SUPERBLOCK.replace(metadata_uuid=b"m" * 16)
    assert metadata_fsid(changed) == SUPERBLOCK.fsid
    assert metadata_fsid(changed.replace(incompat_flags=Incompat.METADATA_UUID)) == b"m" * 16


def test_uuid_text() -> None:
    assert uuid_text(bytes(range(16))) == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_devices_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for wrong, reason in ((tmp_path, "neither a regular file"), (fifo, "neither"), (tmp_path / "none", "No such file")):
        with pytest.raises(BtrimgError, match=reason):
            Device(str(wrong))
    with pytest.raises(BtrimgError, match="null"):
        Device("a\0b")
    with Device(path) as device:
        assert device.size == SIZE
        assert device.pread(4096, SIZE - 4096) == bytes(4096)
        for length, offset in ((4096, SIZE - 4095), (1, SIZE), (1, 1 << 63), (1 << 62, 0)):
            with pytest.raises(BtrimgError, match=f"ends at {SIZE}: no {length} bytes at {offset}"):
                device.pread(length, offset)
