"""Item bodies, built from records with a different value in every field."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.ondisk import chunks, extents, inodes, roots
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.constants import U64_MAX, BlockGroup, ExtentFlag, FileExtentType, ItemType, TreeId
from btrimg.ondisk.csum import extent_data_ref_hash
from btrimg.ondisk.items import ITEM_KINDS
from btrimg.render.dump_items import _PRINTERS, body_lines
from btrimg.render.style import Style

if TYPE_CHECKING:
    from btrimg.ondisk.record import Record

SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8, "q": 8}


def counted(record: type[Any], **given_values: Any) -> Any:
    """Return a record whose fields, in order, are 11, 12, 13, … but for those given; uuids repeat such a number."""
    numbers = itertools.count(11)

    def value(code: str) -> Any:
        count, star, element = code.partition("*")
        if star:
            return tuple(value(element) for _ in range(int(count)))
        if code.endswith("s"):
            return bytes([next(numbers)]) * int(code[:-1])
        if code in SIZES:
            return next(numbers)
        return counted(next(cls for cls in record_classes() if cls.__name__ == code))

    return record(
        **{
            name: given_values.get(name) if name in given_values else value(code)
            for name, code in record.FIELDS + record.TAIL
        }
    )


def record_classes() -> list[type[Record]]:
    from btrimg.ondisk.record import Record

    return Record.__subclasses__()


def body(key: tuple[int, int, int], *records: Any, tail: bytes = b"", style: Style | None = None) -> list[str]:
    payload = b"".join(record.pack() for record in records) + tail
    return list(body_lines(Key(*key), payload, style or Style()))


LOCATION = DiskKey(261, ItemType.INODE_ITEM, 0)
UUID = {n: "-".join([f"{n:02x}" * 4, *[f"{n:02x}" * 2] * 3, f"{n:02x}" * 6]) for n in range(256)}


def test_inode_item_shows_unsigned_seconds_and_unpadded_nanoseconds() -> None:
    inode = counted(inodes.InodeItem, mode=0o100644, flags=1 << 3 | 1 << 60, atime=inodes.Timespec(-1, 5))
    assert body((257, ItemType.INODE_ITEM, 0), inode) == [
        "\t\tgeneration 11 transid 12 size 13 nbytes 14",
        "\t\tblock group 15 mode 100644 links 16 uid 17 gid 18 rdev 19",
        "\t\tsequence 20 flags 0x1000000000000008(NOCOMPRESS|UNKNOWN: 0x1000000000000000)",
        "\t\tatime 18446744073709551615.5 (1969-12-31 23:59:59)",
        "\t\tctime 11.12 (1970-01-01 00:00:11)",
        "\t\tmtime 11.12 (1970-01-01 00:00:11)",
        "\t\totime 11.12 (1970-01-01 00:00:11)",
    ]


def test_names_of_one_item_come_one_after_the_other_and_can_be_hidden() -> None:
    refs = [inodes.InodeRef(2, 3, b"a b"), inodes.InodeRef(3, 1, b"\xff")]
    assert body((257, ItemType.INODE_REF, 256), *refs) == [
        "\t\tindex 2 namelen 3 name: a\\ b",
        "\t\tindex 3 namelen 1 name: \\377",
    ]
    assert body((257, ItemType.INODE_REF, 256), *refs, style=Style(hide_names=True)) == [
        "\t\tindex 2 namelen 3 name: HIDDEN",
        "\t\tindex 3 namelen 1 name: HIDDEN",
    ]
    extref = inodes.InodeExtref(256, 9, 1, b"z")
    assert body((257, ItemType.INODE_EXTREF, 77), extref) == ["\t\tindex 9 parent 256 namelen 1 name: z"]


def test_directory_entries_and_xattrs() -> None:
    entries = [
        inodes.DirItem(LOCATION, 8, 0, 1, 1, b"f", b""),
        inodes.DirItem(DiskKey(0, 0, 0), 9, 2, 6, 8 | 0x80, b"user.x", b"\0v"),
        inodes.DirItem(DiskKey(257, ItemType.ROOT_ITEM, U64_MAX), 10, 0, 1, 11, b"s", b""),
    ]
    assert body((256, ItemType.DIR_ITEM, 1), *entries) == [
        "\t\tlocation key (261 INODE_ITEM 0) type FILE",
        "\t\ttransid 8 data_len 0 name_len 1",
        "\t\tname: f",
        "\t\tlocation key (0 UNKNOWN.0 0) type XATTR",
        "\t\ttransid 9 data_len 2 name_len 6",
        "\t\tname: user.x",
        "\t\tdata \\000v",
        "\t\tlocation key (257 ROOT_ITEM 18446744073709551615) type DIR_ITEM.11",
        "\t\ttransid 10 data_len 0 name_len 1",
        "\t\tname: s",
    ]
    hidden = body((256, ItemType.XATTR_ITEM, 1), entries[1], style=Style(hide_names=True))
    assert hidden[2:] == ["\t\tname: HIDDEN", "\t\tdata HIDDEN"]


def test_file_extents() -> None:
    regular = counted(extents.FileExtent, compression=3, type=FileExtentType.REGULAR)
    assert body((257, ItemType.EXTENT_DATA, 0), regular) == [
        "\t\tgeneration 11 type 1 (regular)",
        "\t\textent data disk byte 15 nr 16",
        "\t\textent data offset 17 nr 18 ram 12",
        "\t\textent compression 3 (zstd)",
    ]
    assert body((257, ItemType.EXTENT_DATA, 0), regular.replace(type=2)) == [
        "\t\tgeneration 11 type 2 (prealloc)",
        "\t\tprealloc data disk byte 15 nr 16",
        "\t\tprealloc data offset 17 nr 18",
    ]
    assert body((257, ItemType.EXTENT_DATA, 0), regular.replace(type=9, compression=77))[-1] == (
        "\t\textent compression 77 (UNKNOWN.77)"
    )
    inline = counted(extents.FileExtentInline, compression=0, type=0, data=b"12345")
    assert body((257, ItemType.EXTENT_DATA, 0), inline) == [
        "\t\tgeneration 11 type 0 (inline)",
        "\t\tinline extent data size 5 ram_bytes 12 compression 0 (none)",
    ]


def root_item(**values: Any) -> Any:
    return counted(roots.RootItem, drop_progress=LOCATION, **values)


def test_root_item_hides_a_stale_end_and_a_legacy_one_has_none() -> None:
    root = root_item(generation=7, generation_v2=7, flags=1)
    whole = body((257, ItemType.ROOT_ITEM, 0), root)
    assert whole[:4] == [
        "\t\tgeneration 7 root_dirid 11 bytenr 12 byte_limit 13 bytes_used 14",
        "\t\tlast_snapshot 15 flags 0x1(RDONLY) refs 16",
        "\t\tdrop_progress key (261 INODE_ITEM 0) drop_level 17",
        "\t\tlevel 18 generation_v2 7",
    ]
    assert whole[4:8] == [
        f"\t\tuuid {UUID[19]}",
        f"\t\tparent_uuid {UUID[20]}",
        f"\t\treceived_uuid {UUID[21]}",
        "\t\tctransid 22 otransid 23 stransid 24 rtransid 25",
    ]
    assert [line.split()[0] for line in whole[8:]] == ["ctime", "otime", "stime", "rtime"]
    assert body((257, ItemType.ROOT_ITEM, 0), root.replace(generation_v2=6))[4:] == []
    legacy = list(body_lines(Key(257, ItemType.ROOT_ITEM, 0), root.pack()[: roots.LEGACY_ROOT_ITEM_SIZE], Style()))
    assert legacy[:3] == whole[:3]
    assert legacy[3:] == ["\t\tlevel 18 generation_v2 0"]


def test_root_references_and_uuids() -> None:
    ref = roots.RootRef(256, 5, 3, b"a\nb")
    assert body((5, ItemType.ROOT_REF, 257), ref) == ["\t\troot ref key dirid 256 sequence 5 name a\\nb"]
    assert body((257, ItemType.ROOT_BACKREF, 5), ref) == ["\t\troot backref key dirid 256 sequence 5 name a\\nb"]
    both = [roots.UuidSubvolume(257), roots.UuidSubvolume(258)]
    assert body((1, ItemType.UUID_KEY_SUBVOL, 2), *both) == ["\t\tsubvol_id 257", "\t\tsubvol_id 258"]


def test_extent_items_with_every_inline_reference() -> None:
    data = extents.ExtentItem(5, 6, ExtentFlag.DATA)
    refs = [
        extents.InlineRef(ItemType.EXTENT_OWNER_REF, 257),
        extents.InlineDataRef(ItemType.EXTENT_DATA_REF, 5, 257, U64_MAX, 2),
        extents.InlineSharedDataRef(ItemType.SHARED_DATA_REF, 4096, 3),
    ]
    key_offset = extent_data_ref_hash(5, 257, U64_MAX)
    assert body((1 << 20, ItemType.EXTENT_ITEM, 4096), data, *refs) == [
        "\t\trefs 5 gen 6 flags DATA",
        "\t\t(172 0x101) extent owner root 257",
        f"\t\t(178 0x{key_offset:x}) extent data backref root FS_TREE objectid 257 offset {U64_MAX} count 2",
        "\t\t(184 0x1000) shared data backref parent 4096 count 3",
    ]
    tree = extents.ExtentItem(1, 6, ExtentFlag.TREE_BLOCK | ExtentFlag.FULL_BACKREF)
    shared = extents.InlineRef(ItemType.SHARED_BLOCK_REF, 8192)
    info = extents.TreeBlockInfo(LOCATION, 2)
    assert body((1 << 20, ItemType.EXTENT_ITEM, 16384), tree, info, shared) == [
        "\t\trefs 1 gen 6 flags TREE_BLOCK|FULL_BACKREF",
        "\t\ttree block key (261 INODE_ITEM 0) level 2",
        "\t\t(182 0x2000) shared block backref parent 8192",
    ]
    owned = extents.InlineRef(ItemType.TREE_BLOCK_REF, TreeId.DATA_RELOC_TREE)
    assert body((1 << 20, ItemType.METADATA_ITEM, 3), tree, owned) == [
        "\t\trefs 1 gen 6 flags TREE_BLOCK|FULL_BACKREF",
        "\t\ttree block skinny level 3",
        "\t\t(176 0xfffffffffffffff7) tree block backref root DATA_RELOC_TREE",
    ]
    assert body((1 << 20, ItemType.METADATA_ITEM, 0), tree, tail=b"\xee12")[-1] == "\t\t3 bytes that do not fit"


def test_keyed_references() -> None:
    assert body((1, ItemType.TREE_BLOCK_REF, 5)) == ["\t\ttree block backref"]
    assert body((1, ItemType.SHARED_BLOCK_REF, 5)) == ["\t\tshared block backref"]
    assert body((1, ItemType.EXTENT_DATA_REF, 5), extents.ExtentDataRef(256, 257, 4096, 2)) == [
        "\t\textent data backref root 256 objectid 257 offset 4096 count 2"
    ]
    assert body((1, ItemType.SHARED_DATA_REF, 5), extents.SharedDataRef(4)) == ["\t\tshared data backref count 4"]
    assert body((1, ItemType.EXTENT_OWNER_REF, 5), extents.ExtentOwnerRef(257)) == ["\t\textent owner root 257"]


def test_chunks_and_devices() -> None:
    stripes = tuple(chunks.Stripe(n, n << 20, bytes([n]) * 16) for n in (3, 1))
    chunk = counted(chunks.Chunk, type=BlockGroup.DATA | BlockGroup.RAID0, num_stripes=2, stripes=stripes)
    assert body((256, ItemType.CHUNK_ITEM, 1 << 30), chunk) == [
        "\t\tlength 11 owner 12 stripe_len 13 type DATA|RAID0",
        "\t\tio_align 14 io_width 15 sector_size 16",
        "\t\tnum_stripes 2 sub_stripes 17",
        "\t\t\tstripe 0 devid 3 offset 3145728",
        f"\t\t\tdev_uuid {UUID[3]}",
        "\t\t\tstripe 1 devid 1 offset 1048576",
        f"\t\t\tdev_uuid {UUID[1]}",
    ]
    assert body((1, ItemType.DEV_ITEM, 1), counted(chunks.DevItem)) == [
        "\t\tdevid 11 total_bytes 12 bytes_used 13",
        "\t\tio_align 14 io_width 15 sector_size 16 type 17",
        "\t\tgeneration 18 start_offset 19 dev_group 20",
        "\t\tseek_speed 21 bandwidth 22",
        f"\t\tuuid {UUID[23]}",
        f"\t\tfsid {UUID[24]}",
    ]
    assert body((1, ItemType.DEV_EXTENT, 1), counted(chunks.DevExtent)) == [
        "\t\tdev extent chunk_tree 11",
        "\t\tchunk_objectid 12 chunk_offset 13 length 14",
        f"\t\tchunk_tree_uuid {UUID[15]}",
    ]
    assert body((1, ItemType.RAID_STRIPE, 1), chunks.RaidStride(2, 4096), chunks.RaidStride(3, 8192)) == [
        "\t\t\tstripe 0 devid 2 physical 4096",
        "\t\t\tstripe 1 devid 3 physical 8192",
    ]


def test_space_accounting() -> None:
    group = chunks.BlockGroupItem(11, 12, BlockGroup.METADATA | BlockGroup.DUP)
    assert body((1, ItemType.BLOCK_GROUP_ITEM, 1), group) == [
        "\t\tblock group used 11 chunk_objectid 12 flags METADATA|DUP"
    ]
    group2 = chunks.BlockGroupItemV2(11, 12, BlockGroup.METADATA_REMAP, 13, 14)
    assert body((1, ItemType.BLOCK_GROUP_ITEM, 1), group2) == [
        "\t\tblock group used 11 chunk_objectid 12 flags METADATA_REMAP|single",
        "\t\tremap bytes 13 identity remap count 14",
    ]
    assert body((1, ItemType.FREE_SPACE_INFO, 1), chunks.FreeSpaceInfo(3, 1)) == [
        "\t\tfree space info extent count 3 flags 1"
    ]
    assert body((1, ItemType.FREE_SPACE_EXTENT, 1)) == ["\t\tfree space extent"]
    assert body((1, ItemType.FREE_SPACE_BITMAP, 1), tail=bytes(256)) == ["\t\tfree space bitmap"]
    header = chunks.FreeSpaceHeader(LOCATION, 4, 5, 6)
    assert body((TreeId.FREE_SPACE, ItemType.UNTYPED, 1), header) == [
        "\t\tlocation key (261 INODE_ITEM 0)",
        "\t\tcache generation 4 entries 5 bitmaps 6",
    ]
    assert body((1, ItemType.REMAP, 1), chunks.RemapItem(77)) == ["\t\taddress 77"]


def test_device_replace_shows_when_it_stopped() -> None:
    replace = chunks.DevReplace(U64_MAX, 12, 13, 1, 2, 60, 120, 14, 15)
    assert body((0, ItemType.DEV_REPLACE, 0), replace) == [
        "\t\tsrc devid -1 cursor left 12 cursor right 13 mode AVOID",
        "\t\tstate FINISHED write errors 14 uncorrectable read errors 15",
        "\t\tstart time 60 (1970-01-01 00:01:00)",
        "\t\tstop time 120 (1970-01-01 00:02:00)",
    ]
    assert "mode unknown(9)" in body((0, ItemType.DEV_REPLACE, 0), replace.replace(cont_reading_from_srcdev_mode=9))[0]


def test_balance_splits_ranges_of_two_u32() -> None:
    args = counted(chunks.BalanceArgs, usage=5 << 32 | 4, limit=7 << 32 | 6)
    lines = body((TreeId.BALANCE, ItemType.TEMPORARY_ITEM, 0), chunks.BalanceItem(3, args, args, args, (0, 0, 0, 0)))
    assert lines[:3] == ["\t\ttemporary item objectid BALANCE offset 0", "\t\tbalance status flags 3", "\t\tDATA"]
    assert lines[3:7] == [
        "\t\tprofiles 11 devid 12 target 17 flags 18",
        "\t\tusage_min 4 usage_max 5 pstart 13 pend 14",
        "\t\tvstart 15 vend 16 limit_min 6 limit_max 7",
        "\t\tstripes_min 19 stripes_max 20",
    ]
    assert [line for line in lines if not line.split()[1:]] == ["\t\tDATA", "\t\tMETADATA", "\t\tSYSTEM"]


def test_other_temporary_and_persistent_items() -> None:
    assert body((TreeId.CSUM_CHANGE, ItemType.TEMPORARY_ITEM, 2)) == [
        "\t\ttemporary item objectid CSUM_CHANGE offset 2",
        "\t\ttarget csum type sha256 (2)",
    ]
    assert body((TreeId.CSUM_CHANGE, ItemType.TEMPORARY_ITEM, 9))[1] == "\t\tunknown csum type 9"
    stats = chunks.DevStats(1, 2, 3, 4, 5)
    known = [
        "\t\tpersistent item objectid DEV_STATS offset 1",
        "\t\tdevice stats",
        "\t\twrite_errs 1 read_errs 2 flush_errs 3 corruption_errs 4 generation 5",
    ]
    assert body((0, ItemType.PERSISTENT_ITEM, 1), stats) == known
    assert body((0, ItemType.PERSISTENT_ITEM, 1), stats, tail=bytes(8)) == [*known, "\t\t8 bytes that do not fit"]
    short = list(body_lines(Key(0, ItemType.PERSISTENT_ITEM, 1), stats.pack()[:16], Style()))
    assert short[-1] == "\t\twrite_errs 1 read_errs 2 flush_errs 0 corruption_errs 0 generation 0"
    assert body((9, ItemType.PERSISTENT_ITEM, 1))[1] == "\t\tunknown persistent item objectid 9"


def test_quota_groups() -> None:
    status = roots.QgroupStatus(1, 9, 1 | 1 << 2 | 1 << 9, 3, 8)
    assert body((0, ItemType.QGROUP_STATUS, 0), status) == [
        "\t\tversion 1 generation 9 flags ON|INCONSISTENT|UNKNOWN(0x200) scan 3"
    ]
    simple = body((0, ItemType.QGROUP_STATUS, 0), status.replace(flags=0b1010), style=Style(simple_quota=True))
    assert simple == ["\t\tversion 1 generation 9 flags OFF|SIMPLE_MODE|SCANNING scan 3 enable_gen 8"]
    assert body((0, ItemType.QGROUP_INFO, 5), counted(roots.QgroupInfo)) == [
        "\t\tgeneration 11",
        "\t\treferenced 12 referenced_compressed 13",
        "\t\texclusive 14 exclusive_compressed 15",
    ]
    assert body((0, ItemType.QGROUP_LIMIT, 5), counted(roots.QgroupLimit, flags=0x1F, max_excl=U64_MAX)) == [
        "\t\tflags 1f",
        "\t\tmax_referenced 11 max_exclusive -1",
        "\t\trsv_referenced 12 rsv_exclusive 13",
    ]
    assert body((5, ItemType.QGROUP_RELATION, 1 << 48)) == []


@pytest.mark.parametrize(("csum_type", "size", "a_line"), [(0, 4, 4), (1, 8, 2), (2, 32, 1), (3, 32, 1), (9, 32, 1)])
def test_csums_come_as_many_a_line_as_fit(csum_type: int, size: int, a_line: int) -> None:
    style = Style(csum_type, 4096, csum_items=True)
    payload = b"".join(bytes([n]) * size for n in range(9))
    lines = list(body_lines(Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 1 << 20), payload, style))
    assert lines[0] == f"\t\trange start {1 << 20} end {(1 << 20) + 9 * 4096} length {9 * 4096}"
    cells = " ".join(line.strip() for line in lines[1:]).split(" ")
    assert cells[::2] == [f"[{(1 << 20) + n * 4096}]" for n in range(9)]
    assert cells[1::2] == ["0x" + f"{n:02x}" * size for n in range(9)]
    assert {line.count("[") for line in lines[1:-1]} == {a_line}
    assert list(body_lines(Key(0, ItemType.EXTENT_CSUM, 0), payload, style._replace(csum_items=False)))[1:] == []


def test_small_items() -> None:
    assert body((1, ItemType.ORPHAN_ITEM, 5)) == ["\t\torphan item"]
    assert body((1, ItemType.DIR_LOG_INDEX, 5), inodes.DirLogItem(9)) == ["\t\tdir log end 9"]
    assert body((1, ItemType.STRING_ITEM, 5), tail=b"a\tb") == ["\t\titem data a\\tb"]
    assert body((1, ItemType.VERITY_MERKLE_ITEM, 5), tail=b"\x01" * 99) == []
    assert body((1, 99, 5), tail=b"\x01" * 99) == []


def test_every_record_of_every_item_has_a_printer() -> None:
    printed_by_preface = {chunks.RaidStride, inodes.VerityDescriptor}
    records = {record for kind in ITEM_KINDS.values() for record in kind.records}
    assert records - printed_by_preface == set(_PRINTERS)


@given(st.integers(0, 255), st.integers(0, U64_MAX), st.binary(max_size=600), st.booleans())
def test_any_bytes_under_any_key_come_as_whole_ascii_lines(
    key_type: int, number: int, payload: bytes, on: bool
) -> None:
    style = Style(number % 5, 4096, on, on, on, on)
    for line in body_lines(Key(number, key_type, number), payload, style):
        assert line.startswith("\t\t")
        assert line.replace("\t", "").isprintable()
        assert line.isascii()
