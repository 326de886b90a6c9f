"""Edits of the demo's image: what was asked for is there, checksums are right, and all else is as it was."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.demo import COMPRESSED, FILES, INLINE, SPARSE, VM

from btrimg.corrupt.engine import Corruptor
from btrimg.errors import BlockError, BtrimgError, CorruptError, DeviceError, NotFoundError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import DiskKey, Header, Key
from btrimg.ondisk.chunks import sys_chunks
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, ItemType, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.extents import InlineDataRef
from btrimg.ondisk.items import parse
from btrimg.ondisk.record import Record
from btrimg.ondisk.superblock import Superblock
from btrimg.volume.draft import write_pieces
from btrimg.volume.sink import DeviceSink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from btrimg.filesystem.image import Image

CSUMS = 32  #: bytes before what a checksum covers


def corrupt(path: str, *edits: str) -> dict[int, int]:
    """Apply *edits* to an image in place; return how many bytes changed at which physical address."""
    with open_image(path, replay_log=None) as image:
        corruptor = Corruptor(image)
        corruptor.apply(edits)
        pieces = list(corruptor.pieces())
        devids = list(image.volume.devices)
    write_pieces(dict.fromkeys(devids, path), pieces)
    return {piece.physical: len(piece.after) for piece in pieces}


@contextmanager
def draft(path: str, *edits: str) -> Iterator[Corruptor]:
    """Give what edits of an image would do, without writing anything."""
    with open_image(path, replay_log=None) as image:
        corruptor = Corruptor(image)
        corruptor.apply(edits)
        yield corruptor


def read(path: str, reference: str) -> Any:
    """Return what a reference leads to, in the image as it is on disk."""
    from btrimg.corrupt.finder import Finder
    from btrimg.corrupt.words import parse_reference

    with open_image(path, replay_log=None, warn=lambda _message: None) as image:
        return Finder(image).read(*parse_reference(reference))


def items(image: Image, tree: int) -> dict[Key, bytes]:
    return dict(image.tree(tree).items())


#: Fields that decide how the rest of an item is read.
SHAPING = {
    "ExtentItem": {"flags"},
    "FileExtent": {"type"},
    "FileExtentInline": {"type"},
    "InlineRef": {"type"},
    "InlineDataRef": {"type"},
    "InodeRef": {"name_len"},
    "DirItem": {"name_len", "data_len"},
    "RootRef": {"name_len"},
    "Chunk": {"num_stripes"},
}
TREES = [TreeId.ROOT_TREE, TreeId.EXTENT_TREE, TreeId.CHUNK_TREE, TreeId.DEV_TREE, TreeId.FS_TREE, TreeId.CSUM_TREE, VM]


def paths_of_fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of every number and of all bytes of fixed length below a record."""
    if isinstance(value, Record):
        for name, _ in value.FIELDS:
            if name in SHAPING.get(type(value).__name__, ()):
                continue
            yield from paths_of_fields(getattr(value, name), f"{path}.{name}" if path else name)
        for name, code in value.TAIL:
            if "*" in code:
                yield from paths_of_fields(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from paths_of_fields(inner, f"{path}[{number}]")
    else:
        yield path, value


@pytest.mark.parametrize("tree", TREES)
def test_any_field_of_any_item_takes_a_value_and_nothing_else_changes(tree: int, demo_image: str) -> None:
    """Of a few items of every type, every field: it reads as what it was set to, and all other bytes stay."""
    noise = random.Random(tree)
    with open_image(demo_image, replay_log=None) as image:
        by_type: dict[int, list[Key]] = {}
        payloads = items(image, tree)
        for key in payloads:
            by_type.setdefault(key.type, []).append(key)
        for keys in by_type.values():
            for key in noise.sample(keys, min(2, len(keys))):
                for number, record in enumerate(parse(key.type, payloads[key]).records):
                    for field, value in noise.sample(found := list(paths_of_fields(record)), min(12, len(found))):
                        target = f"{tree}/{key.objectid}.{key.type}.{key.offset}/[{number}].{field}"
                        _set_and_read(image, target, value, noise)


def _set_and_read(image: Image, target: str, value: Any, noise: random.Random) -> None:
    from btrimg.corrupt.words import parse_reference

    corruptor = Corruptor(image)
    if isinstance(value, bytes):
        new: Any = noise.randbytes(len(value))
        corruptor.apply([f"{target}=0x{new.hex()}"])
    else:
        new = noise.choice([0, 1, 255, noise.randrange(256)])
        corruptor.apply([f"{target}={new}"])
    assert corruptor.finder.read(*parse_reference(target)) == new, target
    size = len(value) if isinstance(value, bytes) else 8
    pieces = list(corruptor.pieces())
    if new == value:
        assert pieces == []
    copies: dict[int, bytes] = {}
    for piece in pieces:
        within = piece.physical % image.volume.nodesize
        if within < CSUMS:
            assert len(piece.after) <= CSUMS, "a checksum, and nothing behind it"
        else:
            assert len(piece.after) <= size, target
            copies[piece.physical] = piece.after
    assert len(set(copies.values())) <= 1, "every copy changes alike"


def test_a_changed_block_is_sound_on_every_copy(forged: str) -> None:
    changed = corrupt(forged, f"fs/{INLINE}.INODE_ITEM/nlink=7")
    assert len(changed) == 4, "two copies, of each the checksum and a byte"
    with open_image(forged) as image:
        assert image.open(b"/files/inline.txt").item.nlink == 7
        pointer = image.tree(TreeId.FS_TREE).root
        assert all(
            not isinstance(image.blocks.accept(data, pointer), str) for data in copies_of(image, pointer.logical)
        )


def copies_of(image: Image, logical: int) -> list[bytes]:
    """Return every copy of a block, also those that are equal."""
    devices, size = image.volume.devices, image.volume.nodesize
    return [devices[at.devid].pread(size, at.physical) for at in image.volume.chunk_map.locate(logical).copies]


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        ("/files/inline.txt:INODE_ITEM/nlink+=5", 2, 7),
        ("/files/inline.txt:INODE_ITEM/nlink-=3", 2, 0xFFFF_FFFF),
        ("/files/inline.txt:INODE_ITEM/mode|=0o7000", 0o100644, 0o107644),
        ("/files/inline.txt:INODE_ITEM/mode&=0o777", 0o100644, 0o644),
        ("/files/inline.txt:INODE_ITEM/mode^=0o644", 0o100644, 0o100000),
        ("/files/inline.txt:INODE_ITEM/flags=InodeFlag.NODATASUM|InodeFlag.NODATACOW", 0, 3),
        ("/files/inline.txt:INODE_ITEM/uid={/files/inline.txt:ino}*2", 0, 2 * INLINE),
        ("/vm/disk.raw:INODE_ITEM/gid={/vm/disk.raw:subvolume}", 0, VM),
        ("/files/inline.txt:EXTENT_DATA/data[0:4]=0x41424344", b"some", b"ABCD"),
        ("/files/inline.txt:EXTENT_DATA/data[0]=65", ord("s"), 65),
        ("/files/inline.txt:EXTENT_DATA/type=FileExtentType.REGULAR", 0, 1),
        ("chunk/1.DEV_ITEM/uuid=00112233-4455-6677-8899-aabbccddeeff", None, bytes(range(0, 256, 17))),
        ("root/5.ROOT_ITEM/inode.mtime.sec=-1", None, (1 << 64) - 1),
    ],
)  # fmt: skip
def test_values_and_operators(edit: str, before: Any, after: Any, forged: str) -> None:
    target = edit.partition("=")[0].rstrip("+-|&^")
    if before is not None and before != b"some" and before != ord("s"):
        assert read(forged, target) == before
    corrupt(forged, edit)
    found = read(forged, target)
    assert found == after or found % (1 << 64) == after


# Items


def test_items_are_deleted_inserted_copied_and_replaced(forged: str) -> None:
    top = f"fs/256.DIR_ITEM.{name_hash(b'vm')}"
    with open_image(forged) as image:
        before = items(image, TreeId.FS_TREE)
    corrupt(
        forged,
        f"{top}=none",
        "fs/ORPHAN.ORPHAN_ITEM.300=0x",
        f"fs/300.INODE_ITEM.0={{fs/{INLINE}.INODE_ITEM}}",
        f"fs/{FILES}.INODE_REF=0x00ff",
    )
    with open_image(forged) as image:
        after = items(image, TreeId.FS_TREE)
    orphan, copy = Key(TreeId.ORPHAN, ItemType.ORPHAN_ITEM, 300), Key(300, ItemType.INODE_ITEM, 0)
    assert after.pop(orphan) == b""
    assert after.pop(copy) == before[Key(INLINE, ItemType.INODE_ITEM, 0)]
    assert after.pop(Key(FILES, ItemType.INODE_REF, 256)) == b"\0\xff"
    del before[Key(FILES, ItemType.INODE_REF, 256)], before[Key(256, ItemType.DIR_ITEM, name_hash(b"vm"))]
    assert after == before


def test_a_name_takes_its_counter_and_the_size_of_the_item_with_it(forged: str) -> None:
    entry = f"fs/{FILES}.DIR_ITEM.hash:inline.txt"
    size = read(forged, f"{entry}/payload.size")
    corrupt(forged, f"{entry}/name=a longer name.txt")
    assert read(forged, f"{entry}/name") == b"a longer name.txt"
    assert read(forged, f"{entry}/name_len") == len("a longer name.txt")
    assert read(forged, f"{entry}/payload.size") == size + 7
    corrupt(forged, f"{entry}/name_len=4")
    assert read(forged, f"{entry}/name") == b"a lo"
    assert read(forged, f"{entry}/payload.size") == size + 7


def test_records_of_an_item_are_taken_out_and_added(forged: str) -> None:
    extent = "extent/{/vm/disk.raw:EXTENT_DATA.0/disk_bytenr}.EXTENT_ITEM"
    payload = read(forged, f"{extent}/payload")
    refs = parse(ItemType.EXTENT_ITEM, payload).records[1:]
    assert len(refs) > 1
    corrupt(
        forged, f"{extent}/[1]=none", f"{extent}/[+]=0x{refs[0].pack().hex()}", f"{extent}/InlineDataRef[0].count=9"
    )
    found = parse(ItemType.EXTENT_ITEM, read(forged, f"{extent}/payload")).records[1:]
    assert found == (refs[1].replace(count=9), *refs[2:], refs[0])
    assert isinstance(refs[0], InlineDataRef)


def test_stripes_are_counted(forged: str) -> None:
    chunk = "chunk/256.CHUNK_ITEM.*[2]"
    second = read(forged, f"{chunk}/stripes[1]")
    corrupt(forged, f"{chunk}/stripes[0]=none", f"{chunk}/stripes[+]={{{chunk}/stripes[0]}}")
    assert read(forged, f"{chunk}/num_stripes") == 2
    assert read(forged, f"{chunk}/stripes") == second * 2
    with pytest.raises(BtrimgError, match="are no number of whole elements of 32"):
        corrupt(forged, f"{chunk}/stripes[+]=0x00")


def test_a_payload_is_cut_filled_and_shifted(forged: str) -> None:
    inode = f"fs/{SPARSE}.INODE_ITEM"
    payload, offset = read(forged, f"{inode}/payload"), read(forged, f"{inode}/slot.offset")
    corrupt(forged, f"{inode}/shift=5")
    assert read(forged, f"{inode}/payload") == payload
    assert read(forged, f"{inode}/slot.offset") == offset - 5
    corrupt(forged, f"{inode}/payload.size-=60")
    assert read(forged, f"{inode}/payload") == payload[:100]
    corrupt(forged, f"{inode}/payload.size=120")
    assert read(forged, f"{inode}/payload") == payload[:100] + bytes(20)
    corrupt(forged, f"{inode}/slot.size=3", f"{inode}/payload[1]^=0xff")
    assert read(forged, f"{inode}/payload") == bytes([payload[0], payload[1] ^ 0xFF, payload[2]])


def test_a_field_changes_in_place_in_a_leaf_with_a_gap(forged: str) -> None:
    corrupt(forged, f"fs/{SPARSE}.INODE_ITEM/shift=5")
    changed = corrupt(forged, f"fs/{INLINE}.INODE_ITEM/nlink=9")
    assert sorted(changed.values()) == [1, 1, 4, 4], "of each copy a byte, and the checksum"


def test_a_key_changes_in_its_slot_or_moves(forged: str) -> None:
    edit = f"fs/{INLINE}.INODE_ITEM/slot.key=300.INODE_ITEM.0"
    with draft(forged, edit) as corruptor:
        keys = _keys(corruptor)
        assert keys != sorted(keys)
    corrupt(forged, edit + "@sort")
    with open_image(forged) as image:
        keys = list(items(image, TreeId.FS_TREE))
    assert keys == sorted(keys)
    assert Key(300, ItemType.INODE_ITEM, 0) in keys


def _keys(corruptor: Corruptor) -> list[Key]:
    from btrimg.corrupt import leaf
    from btrimg.corrupt.words import parse_target

    finder = corruptor.finder
    return leaf.keys_of(finder.descent.block(finder.block(parse_target("fs@0")).logical))


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (f"fs/{INLINE}.INODE_ITEM/payload=0x00*17000", CorruptError, "the items do not fit their leaf"),
        (f"fs/{INLINE}.INODE_ITEM/payload.size-=161", CorruptError, "the items do not fit their leaf"),
        (f"fs/{INLINE}.INODE_ITEM/shift=16000", CorruptError, "there is no room to move payloads by 16000 bytes"),
        (
            f"fs/{INLINE}.INODE_ITEM/nlink=0x100000000",
            BtrimgError,
            "4294967296 does not fit the 32 bits that are there",
        ),
        (f"fs/{INLINE}.INODE_ITEM/what=1", NotFoundError, "there is no field what; the item holds InodeItem"),
        (f"fs/{INLINE}.INODE_ITEM/[1]=none", NotFoundError, "there are 1 records, no"),
        ("fs/999.INODE_ITEM.0/nlink=1", NotFoundError, "there is no such item"),
        ("fs/999.INODE_ITEM.0=none", NotFoundError, "there is no such item"),
        ("fs/256.INODE_ITEM/payload[0:4].x=0x00", NotFoundError, "bytes of the payload have no parts"),
        ("fs@root/bytes[0:4].x=0x00", NotFoundError, "bytes of the block have no parts"),
        ("super/bytes[5000]=0", NotFoundError, "the superblock has 4096 bytes, not those"),
        ("999/1.1.1/nlink=1", NotFoundError, "there is no tree 999"),
        ("log:5/1.1.1/nlink=1", NotFoundError, "there is no log tree"),
        ("/nowhere:INODE_ITEM/nlink=1", NotFoundError, "there is no '/nowhere'"),
        ("/vm:ino=1", BtrimgError, "that can only be read"),
        ("fs@5/header.level=1", CorruptError, "there is nothing to find below it"),
        ("fs@root/header=none", BtrimgError, "that is always there"),
        ("super/fsid=0x00*17", BtrimgError, "17 bytes do not fit the 16"),
        ("super/generation=1@mirror:2", NotFoundError, "there is no such copy of the superblock"),
        ("fs@root/header.level=1@mirror:5", NotFoundError, "there is no mirror 5"),
        ("data/4096=0x00", CorruptError, "logical address 4096 lies in no chunk"),
        ("device/1/99999999999=0x00", BtrimgError, "no 1 bytes at 99999999999"),
        ("device/7/0=0x00", BtrimgError, "device 7 is missing"),
        ("parity-p/{fs@root/header.bytenr}^=0xff", NotFoundError, "is dup, which has no P"),
        ("csum-of/{fs@root/header.bytenr}^=0xff", NotFoundError, "has no checksum"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    edit: str, error: type[BtrimgError], said: str, demo_image: str
) -> None:
    with open_image(demo_image) as image:
        corruptor = Corruptor(image)
        with pytest.raises(error, match=said) as caught:
            corruptor.apply([edit])
        assert str(caught.value).startswith(ascii(edit))
        assert list(corruptor.pieces()) == []


#: What words are made of, so that many name something that is there.
PLACES = [
    "fs/258",
    "fs/256.DIR_ITEM",
    "extent/*.EXTENT_ITEM.*[2]",
    "fs@root",
    "fs@0/257",
    "super",
    "chunk/256.CHUNK_ITEM",
    "root/5.ROOT_ITEM",
    "/files/inline.txt:EXTENT_DATA",
    "data/{fs@root/header.bytenr}",
    "device/1/65536",
    "block@1",
]
STEPS = [
    "/",
    "payload",
    "payload.size",
    "slot.key",
    "slot.size",
    "shift",
    "[0]",
    "[1]",
    "[+]",
    "name",
    "[0:4]",
    "size",
    "header.level",
    "slots[0]",
    "slots[0].key",
    "bytes[0:4]",
    "sys_chunks[0]",
    "super_roots[1]",
    "refs",
    "type",
    ".",
]
VALUES = ["0x", "0xff", "0x00*17", "none", "1", "-1", "4096*4096", "{fs@root}", "{super/fsid}", "257.1.0", "{", "x"]
MARKS = ["", *["@mirror:0", "@mirror:1", "@mirror:9", "@devid:2", "@sort", "@keep-csum", "@keep-parents"]]
WORDS = st.builds(
    "{}/{}{}{}{}".format,
    st.sampled_from(PLACES),
    st.lists(st.sampled_from(STEPS), max_size=2).map("".join),
    st.sampled_from(["=", "+=", "-=", "^=", "|=", "&="]),
    st.sampled_from(VALUES),
    st.sampled_from(MARKS),
)


@settings(max_examples=150)
@given(words=st.lists(WORDS, min_size=1, max_size=4))
def test_any_words_are_edits_or_end_in_a_sentence(words: list[str], demo_image: str) -> None:
    with open_image(demo_image) as image:
        corruptor = Corruptor(image)
        with suppress(BtrimgError):
            corruptor.apply(words)
        for piece in corruptor.pieces():
            assert len(piece.before) == len(piece.after)
            assert piece.before != piece.after


# Tree blocks


def test_only_a_slot_that_is_there_can_be_dropped(demo_image: str) -> None:
    count = read(demo_image, "fs@0/header.nritems")
    with open_image(demo_image) as image:
        corruptor = Corruptor(image)
        for slot in (count, count + 1, -count - 1):
            with pytest.raises(NotFoundError, match=f"no slot {slot}, the block has {count}"):
                corruptor.apply([f"fs@0/slots[{slot}]=none"])
        assert not list(corruptor.pieces())
        corruptor.apply(["fs@0/slots[-1]=none"])
        assert list(corruptor.pieces())


@pytest.mark.parametrize(
    "field", ["generation", "owner", "level", "nritems", "flags", "bytenr", "fsid", "chunk_tree_uuid"]
)
def test_headers(field: str, forged: str) -> None:
    old = read(forged, f"fs@root/header.{field}")
    value = f"0x{bytes(16).hex()}" if isinstance(old, bytes) else "2"
    with open_image(forged) as image:
        logical = image.tree(TreeId.FS_TREE).root.logical
    corrupt(forged, f"fs@root/header.{field}={value}")
    with open_image(forged) as image:
        for data in copies_of(image, logical):
            header = Header.unpack(data)
            assert getattr(header, field) == (bytes(16) if isinstance(old, bytes) else 2)
            assert header.csum[:4] == image.volume.csum.digest(data[32:])


def test_a_checksum_is_kept_or_spoilt_when_asked(forged: str) -> None:
    old = read(forged, "fs@root/header.csum")
    corrupt(forged, f"fs/{INLINE}.INODE_ITEM/nlink=3@keep-csum")
    assert read(forged, "fs@root/header.csum") == old
    assert read(forged, f"fs/{INLINE}.INODE_ITEM/nlink") == 3
    with open_image(forged) as image, pytest.raises(BlockError, match="bad checksum"):
        image.open(b"/files")
    corrupt(forged, f"fs/{INLINE}.INODE_ITEM/nlink=2@keep-csum", "fs@root/header.csum[0]^=0xff@mirror:0")
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        assert image.open(b"/files/inline.txt").item.nlink == 2
    assert any("bad checksum" in warning for warning in said)


def test_one_mirror_only(forged: str) -> None:
    corrupt(forged, f"fs/{INLINE}.INODE_ITEM/nlink=9@mirror:1")
    target = f"fs/{INLINE}.INODE_ITEM/nlink"
    assert (read(forged, f"{target}@mirror:0"), read(forged, f"{target}@mirror:1")) == (2, 9)
    corrupt(forged, f"fs/{INLINE}.INODE_ITEM/uid=5")
    assert (read(forged, f"{target}@mirror:0"), read(forged, f"{target}@mirror:1")) == (2, 9), "copies stay different"


def test_an_older_block_is_put_back_as_a_lost_write_leaves_it(forged: str) -> None:
    generation = read(forged, "fs@root/header.generation")
    with open_image(forged) as image:
        logical = image.tree(TreeId.FS_TREE).root.logical
    corrupt(forged, "fs@root=older@mirror:0")
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        stale = Header.unpack(copies_of(image, logical)[0])
        assert stale.bytenr == logical
        assert stale.generation < generation
        assert image.open(b"/files").is_directory
    assert any(f"generation is {stale.generation}, its parent says {generation}" in warning for warning in said)


def test_blocks_are_named_by_address_where_trees_lead_nowhere(forged: str) -> None:
    with open_image(forged) as image:
        logical = image.tree(TreeId.FS_TREE).root.logical
    corrupt(forged, "root/5.ROOT_ITEM/bytenr=4096", f"block@{logical}/{INLINE}.INODE_ITEM/nlink=4")
    assert read(forged, f"block@{logical}/{INLINE}.INODE_ITEM/nlink") == 4
    corrupt(forged, f"block@{logical}/bytes[101:110]=0x00*9", f"block@{logical}/slots[1].offset=77")
    with open_image(forged) as image:
        data = copies_of(image, logical)[1]
    assert data[101:110] == bytes(9)
    assert int.from_bytes(data[101 + 25 + 17 :][:4], "little") == 77
    assert data[:4] == image.volume.csum.digest(data[32:])


# Superblocks


def superblocks(path: str) -> list[Superblock]:
    with open(path, "rb") as file:
        return [Superblock.unpack(os.pread(file.fileno(), SUPERBLOCK_SIZE, at)) for at in SUPERBLOCK_OFFSETS[:2]]


def test_superblocks_all_of_them_or_one(forged: str) -> None:
    before = superblocks(forged)
    corrupt(forged, "super/bytes_used+=4096", "super/label=odd@mirror:1", "super/super_roots[2].fs_root_level=7")
    first, second = superblocks(forged)
    assert first.bytes_used == second.bytes_used == before[0].bytes_used + 4096
    assert first.super_roots[2] == before[0].super_roots[2].replace(fs_root_level=7)
    assert (first.label, second.label[:4]) == (before[0].label, b"odd\0")
    with open_image(forged) as image:
        for copy in (first, second):
            assert copy.csum[:4] == image.volume.csum.digest(copy.pack()[32:])
        assert image.superblock == first
    assert first.replace(csum=b"", bytes_used=0, super_roots=()) == before[0].replace(
        csum=b"", bytes_used=0, super_roots=()
    )


def test_system_chunks_of_the_superblock(forged: str) -> None:
    before = superblocks(forged)
    (key, chunk), *others = sys_chunks(array(before[0]))
    corrupt(forged, "super/sys_chunks[0]=none@mirror:1")
    assert list(sys_chunks(array(superblocks(forged)[1]))) == others
    assert superblocks(forged)[1].super_roots == before[1].super_roots
    corrupt(forged, f"super/sys_chunk_array=0x{before[1].sys_chunk_array.hex()}@mirror:1")
    corrupt(forged, f"super/sys_chunk_array_size={before[1].sys_chunk_array_size}@mirror:1")
    assert superblocks(forged) == before
    corrupt(forged, "super/sys_chunks[0].key.offset+=1", "super/sys_chunks[0].chunk.stripes[1].devid=9@mirror:0")
    first, second = superblocks(forged)
    changed = chunk.replace(stripes=(chunk.stripes[0], chunk.stripes[1].replace(devid=9)))
    moved = DiskKey(*key).replace(offset=key.offset + 1)
    assert list(sys_chunks(array(first))) == [(moved, changed), *others]
    assert list(sys_chunks(array(second))) == [(moved, chunk), *others]


def array(superblock: Superblock) -> bytes:
    return superblock.sys_chunk_array[: superblock.sys_chunk_array_size]


# Data


def test_data_and_its_checksum_each_with_and_without_the_other(forged: str) -> None:
    extent = "{/vm/disk.raw:EXTENT_DATA.0/disk_bytenr}"
    with open_image(forged) as image:
        text = image.open(b"/vm/disk.raw").read(0, 8192)
    flipped = bytes([text[0] ^ 0xFF]) + text[1:]
    corrupt(forged, f"data/{extent}^=0xff")
    with open_image(forged) as image:
        assert image.open(b"/vm/disk.raw").read(0, 8192) == flipped, "a new checksum for the new data"
    corrupt(forged, f"data/{extent}^=0xff@mirror:1@keep-csum")
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        assert image.open(b"/vm/disk.raw").read(0, 8192) == flipped, "the other mirror"
    corrupt(forged, f"csum-of/{extent}+4096^=0xff")
    with open_image(forged, warn=said.append) as image, pytest.raises(CorruptError):
        image.open(b"/vm/disk.raw").read(4096, 4096)


def test_raw_bytes_of_a_device(forged: str) -> None:
    with open(forged, "rb") as file:
        before = os.pread(file.fileno(), 8, 12345)
    assert corrupt(forged, "device/1/12345=0x0102", "device/1/12347^=0xffff") == {12345: 4}
    with open(forged, "rb") as file:
        after = os.pread(file.fileno(), 8, 12345)
    assert after == bytes([1, 2, before[2] ^ 0xFF, before[3] ^ 0xFF]) + before[4:]
    assert read(forged, "device/1/12345")[:8] == after


def test_nothing_is_written_when_one_edit_of_many_is_impossible(forged: str) -> None:
    with pytest.raises(NotFoundError):
        corrupt(forged, f"fs/{COMPRESSED}.INODE_ITEM/nlink=0", "fs/999.INODE_ITEM.0/nlink=1")
    assert read(forged, f"fs/{COMPRESSED}.INODE_ITEM/nlink") == 1


def test_a_device_that_goes_by_two_numbers_is_mended(demo_image: str, tmp_path: Path) -> None:
    path = str(tmp_path / "copy.img")
    shutil.copyfile(demo_image, path)
    corrupt(path, "chunk/*.DEV_ITEM/devid=7")
    with open_image(path, replay_log=None, warn=lambda _message: None) as image:
        assert set(image.volume.devices) == {1, 7}
        with pytest.raises(DeviceError, match=r"copy.img is device 1 as well as 7: .*btrimg corrupt"):
            DeviceSink(image.volume.devices)
    corrupt(path, "chunk/*.DEV_ITEM/devid=1")
    with open(path, "rb") as mended, open(demo_image, "rb") as before:
        assert mended.read() == before.read()
