"""Every declaration, three readers: construct, the packer and numpy must tell the same of any bytes."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import CorruptError
from btrimg.ondisk import blocks, chunks, inodes
from btrimg.ondisk.generate import all_records
from btrimg.ondisk.record import Record
from btrimg.ondisk.superblock import RootBackup, Superblock

if TYPE_CHECKING:
    from btrimg.ondisk.fields import S64, U8, U16, U32, Rest, counted, times

RECORDS = all_records()
SIZES = {  # of the fixed part; struct definitions of include/uapi/linux/btrfs_tree.h
    "DiskKey": 17,
    "Header": 101,
    "Item": 25,
    "KeyPtr": 33,
    "Superblock": 4096,
    "RootBackup": 168,
    "DevItem": 98,
    "Stripe": 32,
    "Chunk": 48,
    "DevExtent": 48,
    "BlockGroupItem": 24,
    "BlockGroupItemV2": 36,
    "FreeSpaceInfo": 8,
    "FreeSpaceHeader": 41,
    "FreeSpaceEntry": 17,
    "ExtentItem": 24,
    "ExtentItemV0": 4,
    "TreeBlockInfo": 18,
    "InlineRef": 9,
    "InlineDataRef": 29,
    "InlineSharedDataRef": 13,
    "ExtentDataRef": 28,
    "SharedDataRef": 4,
    "ExtentOwnerRef": 8,
    "InodeItem": 160,
    "Timespec": 12,
    "InodeRef": 10,
    "InodeExtref": 18,
    "DirItem": 30,
    "DirLogItem": 8,
    "RootItem": 439,
    "RootRef": 18,
    "FileExtent": 53,
    "FileExtentInline": 21,
    "DevStats": 40,
    "DevReplace": 72,
    "BalanceArgs": 136,
    "BalanceItem": 448,
    "RaidStride": 16,
    "QgroupStatus": 40,
    "QgroupInfo": 40,
    "QgroupLimit": 40,
    "UuidSubvolume": 8,
    "VerityDescriptor": 25,
    "RemapItem": 8,
}
SUPERBLOCK_OFFSETS = {
    "csum": 0,
    "fsid": 32,
    "bytenr": 48,
    "flags": 56,
    "magic": 64,
    "generation": 72,
    "root": 80,
    "chunk_root": 88,
    "log_root": 96,
    "log_root_transid": 104,
    "total_bytes": 112,
    "bytes_used": 120,
    "root_dir_objectid": 128,
    "num_devices": 136,
    "sectorsize": 144,
    "nodesize": 148,
    "leafsize": 152,
    "stripesize": 156,
    "sys_chunk_array_size": 160,
    "chunk_root_generation": 164,
    "compat_flags": 172,
    "compat_ro_flags": 180,
    "incompat_flags": 188,
    "csum_type": 196,
    "root_level": 198,
    "chunk_root_level": 199,
    "log_root_level": 200,
    "dev_item": 201,
    "label": 299,
    "cache_generation": 555,
    "uuid_tree_generation": 563,
    "metadata_uuid": 571,
    "nr_global_roots": 587,
    "remap_root": 595,
    "remap_root_generation": 603,
    "remap_root_level": 611,
    "reserved": 612,
    "sys_chunk_array": 811,
    "super_roots": 2859,
    "padding": 3531,
}
OFFSETS: dict[type[Record], dict[str, int]] = {
    Superblock: SUPERBLOCK_OFFSETS,
    blocks.Header: {
        "csum": 0,
        "fsid": 32,
        "bytenr": 48,
        "flags": 56,
        "chunk_tree_uuid": 64,
        "generation": 80,
        "owner": 88,
        "nritems": 96,
        "level": 100,
    },
    RootBackup: {"tree_root": 0, "total_bytes": 96, "num_devices": 112, "tree_root_level": 152, "unused_8": 158},
    inodes.InodeItem: {"size": 16, "nlink": 40, "mode": 52, "rdev": 56, "flags": 64, "atime": 112, "otime": 148},
}


class Odd(Record):
    """A structure that stands nowhere on disk: what the real ones do not combine."""

    before: S64
    pair: Annotated[tuple[Any, ...], times(2, inodes.Timespec)]
    small: Annotated[tuple[int, ...], times(3, U8)]
    length: U16
    number: U32
    name: Annotated[bytes, counted("length")]
    rest: Rest


def plain(value: Any) -> Any:
    """Turn what numpy has read into the values of a Record's fields."""
    if isinstance(value, np.void):
        return tuple(plain(value[name]) for name in value.dtype.names) if value.dtype.names else value.tobytes()
    if isinstance(value, np.ndarray):
        return tuple(plain(element) for element in value)
    return int(value)


def random_bytes(cls: type[Record], seed: int) -> bytes:
    """Return bytes of one record: any, but that the counts are as small as real ones."""
    source = random.Random(seed)
    data = bytearray(source.randbytes(cls.SIZE))
    for _, code in cls.TAIL:
        counter, star, element = code[1:].partition("*")
        count = source.randrange(5 if star else 300)
        if counter:
            column: Any = cls.dtype().fields
            kind, offset = column[counter]
            data[offset : offset + kind.itemsize] = count.to_bytes(kind.itemsize, "little")
        data += source.randbytes(count * (chunks.Stripe.SIZE if element else 1))
    return bytes(data)


@pytest.mark.parametrize("cls", [*RECORDS, Odd], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("seed", range(8))
def test_construct_packer_and_dtype_agree(cls: type[Record], seed: int) -> None:
    data = random_bytes(cls, seed)
    record = cls.unpack(data)
    assert record == cls.con().parse(data)
    assert type(record) is cls
    assert record.pack() == cls.con().build(record) == data
    assert record.packed_size() == len(data)
    assert cls.dtype().itemsize == cls.SIZE
    assert tuple(record)[: len(cls.FIELDS)] == plain(np.frombuffer(data, cls.dtype(), count=1)[0])
    assert cls.unpack(memoryview(b"abc" + data), 3) == record
    assert cls(**record.asdict()) == record == cls(*record)
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize("cls", [*RECORDS, Odd], ids=lambda cls: cls.__name__)
def test_patched_bytes_are_those_of_the_record_with_the_fields_replaced(cls: type[Record]) -> None:
    data = random_bytes(cls, 1)
    other = cls.unpack(random_bytes(cls, 2))
    counters = {code[1:].partition("*")[0] for _, code in cls.TAIL}
    for name in {name for name, _ in cls.FIELDS} - counters:
        changes = {name: getattr(other, name)}
        assert cls.patch(data, **changes) == cls.unpack(data).replace(**changes).pack()
    with pytest.raises(CorruptError, match=f"{cls.__name__} takes {cls.SIZE} bytes, there are {cls.SIZE - 1}"):
        cls.patch(data[: cls.SIZE - 1])


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_cut_short_is_an_error(cls: type[Record]) -> None:
    data = random_bytes(cls, 1)
    greedy = any(code == "<" for _, code in cls.TAIL)
    with pytest.raises(CorruptError, match=cls.__name__):
        cls.unpack(data[: cls.SIZE - 1] if greedy else data[:-1])
    with pytest.raises(CorruptError, match="0 are left"):
        cls.unpack(data, len(data) + (1 << 70))


def test_sizes_are_the_kernels() -> None:
    assert {cls.__name__: cls.SIZE for cls in RECORDS} == SIZES


@pytest.mark.parametrize("cls", OFFSETS, ids=lambda cls: cls.__name__)
def test_offsets_are_the_kernels(cls: type[Record]) -> None:
    columns: Any = cls.dtype().fields
    assert {name: columns[name][1] for name in OFFSETS[cls]} == OFFSETS[cls]


def test_every_field_of_the_superblock_has_an_offset_above() -> None:
    assert tuple(SUPERBLOCK_OFFSETS) == Superblock.names()


def test_values_read_where_they_stand() -> None:
    time = inodes.Timespec.unpack((-5).to_bytes(8, "little", signed=True) + (7).to_bytes(4, "little"))
    assert (time.sec, time.nsec) == (-5, 7)
    entry = inodes.DirItem.unpack(bytes(25) + b"\x02\0\x03\0\x08" + b"abcxy" + b"next")
    assert (entry.data_len, entry.name_len, entry.type, entry.name, entry.data) == (2, 3, 8, b"abc", b"xy")


def test_nested_records_and_arrays_are_values() -> None:
    time = inodes.Timespec(3, 4)
    odd = Odd(-1, (time, inodes.Timespec(5, 6)), (7, 8, 9), 2, 10, b"ab", b"c")
    assert odd.pair[1].nsec == 6
    assert Odd.unpack(odd.pack()) == odd
    assert odd.replace(number=11) == Odd(-1, odd.pair, (7, 8, 9), 2, 11, b"ab", b"c")
    assert repr(time) == "Timespec(sec=3, nsec=4)"


def test_sys_chunks_are_pairs_and_a_cut_one_is_an_error() -> None:
    stripes = tuple(chunks.Stripe(devid, devid << 20, bytes([devid]) * 16) for devid in (1, 2, 7))
    chunk = chunks.Chunk(1 << 23, 2, 1 << 16, 0x22, 4096, 4096, 4096, 3, 0, stripes)
    keys = [blocks.DiskKey(256, 228, offset << 20) for offset in (20, 30)]
    array = b"".join(key.pack() + chunk.pack() for key in keys)
    assert list(chunks.sys_chunks(array)) == [(key, chunk) for key in keys]
    with pytest.raises(CorruptError, match=r"Chunk\.stripes takes 96 bytes, 95 are left"):
        list(chunks.sys_chunks(array[:-1]))


@pytest.mark.parametrize("values", [(1, 2), (1, 2, 3, 4)])
def test_the_number_of_fields_is_checked(values: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match="DiskKey takes objectid, type, offset"):
        blocks.DiskKey(*values)


def test_unknown_and_missing_names_are_refused() -> None:
    with pytest.raises(TypeError, match="DiskKey takes"):
        blocks.DiskKey(1, 2, ofset=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="DiskKey takes"):
        blocks.DiskKey(objectid=1, type=2)  # type: ignore[call-arg]


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        blocks.DiskKey(1, 2, 3).offset = 4  # type: ignore[misc]


def test_a_count_that_lies_is_not_packed() -> None:
    with pytest.raises(ValueError, match=r"InodeRef\.name is 2 long, name_len says 3"):
        inodes.InodeRef(1, 3, b"ab").pack()


def test_two_records_cannot_have_one_name() -> None:
    with pytest.raises(TypeError, match="another Record called Odd"):
        type("Odd", (Record,), {})


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 255), st.integers(0, (1 << 64) - 1))
def test_keys_sort_as_the_kernel_sorts_them(objectid: int, key_type: int, offset: int) -> None:
    key = blocks.Key(objectid, key_type, offset)
    assert blocks.KEY_MIN <= key <= blocks.KEY_MAX
    assert blocks.Key(*blocks.DiskKey.unpack(blocks.DiskKey(*key).pack())) == key


def test_the_point_path_needs_neither_construct_nor_numpy() -> None:
    code = "import sys, btrimg.ondisk.items, btrimg.ondisk.superblock; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert "btrimg.ondisk.generated" in loaded
    assert not {"construct", "numpy", "dataclasses", "pathlib", "logging", "inspect"} & set(loaded)
