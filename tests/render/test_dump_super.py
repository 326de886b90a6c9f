from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.ondisk.blocks import DiskKey
from btrimg.ondisk.chunks import Chunk, DevItem, Stripe
from btrimg.ondisk.constants import MAGIC, SUPERBLOCK_SIZE, BlockGroup, CompatRo, Incompat, ItemType, SuperFlag
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.superblock import RootBackup, Superblock
from btrimg.render.dump_super import as_dict, heading, lines

FSID, OTHER = bytes(range(16)), bytes(range(16, 32))
FSID_TEXT, OTHER_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f", "10111213-1415-1617-1819-1a1b1c1d1e1f"
NO_UUID = "00000000-0000-0000-0000-000000000000"


def superblock(**changes: Any) -> Superblock:
    """Return a superblock with a valid checksum and a value of its own in nearly every field."""
    device = DevItem(7, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 10, 11, OTHER, FSID)
    blank = Superblock.unpack(bytes(SUPERBLOCK_SIZE))
    made = blank.replace(
        fsid=FSID, bytenr=65536, flags=SuperFlag.WRITTEN, magic=MAGIC, generation=21, root=22, chunk_root=23,
        log_root=24, log_root_transid=25, total_bytes=26, bytes_used=27, root_dir_objectid=6, num_devices=28,
        sectorsize=4096,
        nodesize=16384, leafsize=16385, stripesize=29, chunk_root_generation=30, csum_type=1, root_level=1,
        chunk_root_level=2, log_root_level=3, dev_item=device, label=b"a\tlabel\0rest".ljust(256, b"\0"),
        cache_generation=31, uuid_tree_generation=32,
        compat_ro_flags=CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID | 1 << 9,
        incompat_flags=Incompat.MIXED_BACKREF,
    ).replace(**changes)  # fmt: skip
    if made.csum_type > 3:
        return made
    digest = algorithm(made.csum_type).digest(made.pack()[32:])
    return made.replace(csum=digest.ljust(32, b"\0"))


def values(sb: Superblock, **options: bool) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in lines(sb, **options) if line[0] not in "\t ")


def test_layout_is_that_of_btrfs_progs() -> None:
    sb = superblock()
    text = list(lines(sb))
    assert text[:3] == ["csum_type\t\t1 (xxhash64)", "csum_size\t\t8", f"csum\t\t\t0x{sb.csum[:8].hex()} [match]"]
    assert text[3:6] == ["bytenr\t\t\t65536", "flags\t\t\t0x1", "\t\t\t( WRITTEN )"]
    assert text[6:10] == [
        "magic\t\t\t_BHRfS_M [match]",
        f"fsid\t\t\t{FSID_TEXT}",
        f"metadata_uuid\t\t{NO_UUID}",
        "label\t\t\ta.label",
    ]
    assert text[10:30] == [
        "generation\t\t21",
        "root\t\t\t22",
        "sys_array_size\t\t0",
        "chunk_root_generation\t30",
        "root_level\t\t1",
        "chunk_root\t\t23",
        "chunk_root_level\t2",
        "log_root\t\t24",
        "log_root_transid (deprecated)\t25",
        "log_root_level\t\t3",
        "total_bytes\t\t26",
        "bytes_used\t\t27",
        "sectorsize\t\t4096",
        "nodesize\t\t16384",
        "leafsize (deprecated)\t16385",
        "stripesize\t\t29",
        "root_dir\t\t6",
        "num_devices\t\t28",
        "compat_flags\t\t0x0",
        "compat_ro_flags\t\t0x203",
    ]
    assert text[30:35] == [
        "\t\t\t( FREE_SPACE_TREE |",
        "\t\t\t  FREE_SPACE_TREE_VALID |",
        "\t\t\t  unknown flag: 0x200 )",
        "incompat_flags\t\t0x1",
        "\t\t\t( MIXED_BACKREF )",
    ]
    assert text[35:] == [
        "cache_generation\t31",
        "uuid_tree_generation\t32",
        f"dev_item.uuid\t\t{OTHER_TEXT}",
        f"dev_item.fsid\t\t{FSID_TEXT} [match]",
        "dev_item.type\t\t1006",
        "dev_item.total_bytes\t1001",
        "dev_item.bytes_used\t1002",
        "dev_item.io_align\t1003",
        "dev_item.io_width\t1004",
        "dev_item.sector_size\t1005",
        "dev_item.devid\t\t7",
        "dev_item.dev_group\t1009",
        "dev_item.seek_speed\t10",
        "dev_item.bandwidth\t11",
        "dev_item.generation\t1007",
    ]


def test_what_does_not_match_says_so() -> None:
    bad = values(superblock().replace(csum=bytes(32), magic=0x4D5F53665248425E, fsid=OTHER))
    assert bad["csum"] == "\t\t0x0000000000000000 [DON'T MATCH]"
    assert bad["magic"] == "\t\t^BHRfS_M [DON'T MATCH]"
    assert bad["dev_item.fsid"] == f"\t{FSID_TEXT} [DON'T MATCH]"


def test_the_device_belongs_to_the_metadata_uuid_where_there_is_one() -> None:
    changed = superblock(fsid=OTHER, metadata_uuid=FSID, incompat_flags=Incompat.METADATA_UUID)
    assert values(changed)["dev_item.fsid"] == f"\t{FSID_TEXT} [match]"


def test_a_csum_of_unknown_type_is_shown_whole() -> None:
    shown = values(superblock(csum_type=77, csum=bytes(range(32))))
    assert shown["csum_type"] == "\t77 (INVALID)"
    assert shown["csum_size"] == "\t32"
    assert shown["csum"] == f"\t\t0x{bytes(range(32)).hex()} [UNKNOWN CSUM TYPE OR SIZE]"


def test_fields_of_other_features_appear_with_them() -> None:
    plain = values(superblock(nr_global_roots=3, remap_root=4))
    assert "nr_global_roots" not in plain
    assert "remap_root" not in plain
    flags = Incompat.EXTENT_TREE_V2 | Incompat.REMAP_TREE
    shown = values(superblock(nr_global_roots=3, remap_root=4, remap_root_level=5, incompat_flags=flags))
    assert [shown[name].strip() for name in ("nr_global_roots", "remap_root", "remap_root_level")] == ["3", "4", "5"]


def with_chunks(size: int | None = None) -> Superblock:
    stripes = tuple(Stripe(n, n << 20, FSID) for n in (1, 2))
    chunk = Chunk(8 << 20, 2, 65536, BlockGroup.SYSTEM | BlockGroup.DUP, 1, 2, 4096, 2, 1, stripes)
    entry = DiskKey(256, ItemType.CHUNK_ITEM, 22020096).pack() + chunk.pack()
    array = entry + DiskKey(256, ItemType.CHUNK_ITEM, 1 << 30).pack() + chunk.pack()
    used = len(array) if size is None else size
    return superblock(sys_chunk_array=array.ljust(2048, b"\0"), sys_chunk_array_size=used)


def backup(number: int) -> RootBackup:
    fields = {name: number + at for at, name in enumerate(RootBackup.names()) if not name.startswith("unused")}
    return RootBackup(unused_64=(0,) * 4, unused_8=(0,) * 10, **fields)


def test_full_shows_system_chunks_and_the_backup_roots_in_use() -> None:
    none = RootBackup.unpack(bytes(RootBackup.SIZE))
    text = list(lines(with_chunks().replace(super_roots=(backup(100), none, none, backup(200))), full=True))
    text = text[text.index("sys_chunk_array[2048]:") :]
    assert text[1:4] == [
        "\titem 0 key (FIRST_CHUNK_TREE CHUNK_ITEM 22020096)",
        "\t\tlength 8388608 owner 2 stripe_len 65536 type SYSTEM|DUP",
        "\t\tio_align 1 io_width 2 sector_size 4096",
    ]
    assert text[9] == "\titem 1 key (FIRST_CHUNK_TREE CHUNK_ITEM 1073741824)"
    text = text[text.index("backup_roots[4]:") :]
    assert text[1:11] == [
        "\tbackup 0:",
        "\t\tbackup_tree_root:\t100\tgen: 101\tlevel: 116",
        "\t\tbackup_chunk_root:\t102\tgen: 103\tlevel: 117",
        "\t\tbackup_extent_root:\t104\tgen: 105\tlevel: 118",
        "\t\tbackup_fs_root:\t\t106\tgen: 107\tlevel: 119",
        "\t\tbackup_dev_root:\t108\tgen: 109\tlevel: 120",
        "\t\tcsum_root:\t110\tgen: 111\tlevel: 121",
        "\t\tbackup_total_bytes:\t112",
        "\t\tbackup_bytes_used:\t113",
        "\t\tbackup_num_devices:\t114",
    ]
    assert text[11:13] == ["", "\tbackup 3:"]


@pytest.mark.parametrize("size", [10, 17, 60, 130, 4000])
def test_a_system_chunk_array_cut_short_is_shown_up_to_there(size: int) -> None:
    text = list(lines(with_chunks(size), full=True))
    end = text.index("backup_roots[4]:")
    assert ("no chunk" if size == 4000 else "cut short") in text[end - 1]
    assert any("item 0" in line for line in text) == (size >= 129)
    assert len(as_dict(with_chunks(size))["sys_chunk_array"]) == (2 if size == 4000 else size >= 129)


def test_object_has_raw_integers_names_and_verdicts() -> None:
    found = as_dict(with_chunks())
    assert list(found)[:5] == ["csum", "fsid", "bytenr", "flags", "magic"]
    assert (found["fsid"], found["magic"], found["label"]) == (FSID_TEXT, MAGIC, "a\tlabel")
    assert found["dev_item"]["uuid"] == OTHER_TEXT
    assert found["names"] == {
        "csum_type": "xxhash64",
        "flags": ["WRITTEN"],
        "compat_ro_flags": ["FREE_SPACE_TREE", "FREE_SPACE_TREE_VALID", "UNKNOWN: 0x200"],
        "incompat_flags": ["MIXED_BACKREF"],
        "magic": "_BHRfS_M",
    }
    assert found["valid"] == {"csum": True, "magic": True, "dev_item_fsid": True}
    assert found["sys_chunk_array"][1]["key"] == {"objectid": 256, "type": 228, "offset": 1 << 30}
    assert [stripe["devid"] for stripe in found["sys_chunk_array"][0]["stripes"]] == [1, 2]


def test_heading() -> None:
    assert list(heading(65536, "/dev/x\ny")) == [
        "superblock: bytenr=65536, device=/dev/x\\ny",
        "---------------------------------------------------------",
    ]


@given(st.binary(min_size=600, max_size=SUPERBLOCK_SIZE))
def test_any_bytes_can_be_shown(data: bytes) -> None:
    sb = Superblock.unpack(data.ljust(SUPERBLOCK_SIZE, data[:1]))
    assert all(line.isascii() and line.replace("\t", "").isprintable() for line in lines(sb, full=True))
    assert as_dict(sb)["valid"]["csum"] in (False, None)
