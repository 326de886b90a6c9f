"""``item``: what is copied and what is changed in place, what follows from a change, and what is refused."""

from __future__ import annotations

import filecmp
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bases, images, kernel, odd
from support.demo import COMPRESSED, INLINE
from support.dump_text import run_progs
from support.populate import Filler

from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.corrupt.engine import Corruptor
from btrimg.corrupt.values import Values
from btrimg.corrupt.words import parse_reference
from btrimg.edit.items import ItemEditor
from btrimg.edit.itemwords import Manner
from btrimg.errors import BtrimgError, NotFoundError
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import open_image
from btrimg.filesystem.spacecache import cached_free_space
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import sys_chunks
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, ItemType, TreeId
from btrimg.ondisk.items import parse_item
from btrimg.ondisk.keynames import key_words
from btrimg.ondisk.superblock import Superblock
from btrimg.render.itemrows import reading_lines, value_text
from btrimg.trees.tree import Tree

from .fieldsets import fields_of
from .sessions import begun, undone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from btrimg.corrupt.told import Reading

INODE = f"{INLINE}.INODE_ITEM.0"
IN_PLACE = Manner(in_place=True)


def test_an_item_is_copied_and_what_was_there_stays(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        (before,) = editor.get(["fs", INODE])
        done = editor.set(["fs", INODE, "uid=7", "mtime.sec+=4"])
        assert done.in_place is None
        assert [change.after for change in done.changes] == [7, int(done.changes[1].before or 0) + 4]
        (pending,) = editor.get(["fs", INODE, "uid"])
        assert pending.fields == (("uid", 7),), "what waits is read"
        generation = session.image.superblock.generation
        session.commit()
        (after,) = editor.get(["fs", INODE])
        assert session.image.superblock.generation == generation + 1
        assert after.block != before.block
        (old,) = editor.get([f"block@{before.block}", INODE, "uid"])
        assert old.fields == (("uid", 0),)


def test_in_place_the_block_stays_and_is_sound_on_all_copies(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        (before,) = editor.get(["fs", INODE])
        assert editor.set(["fs", INODE, "uid=7"], IN_PLACE).in_place == "as was asked for"
        (after,) = editor.get(["fs", INODE])
        assert (after.block, session.image.superblock.generation) == (before.block, 12)
        for mirror in (0, 1):
            (reading,) = editor.get(["fs", INODE, "uid"], mirror)
            assert reading.fields == (("uid", 7),)
    assert faults_of(forged) == 0


def faults_of(path: str) -> int:
    with open_image(path, replay_log=None) as image:
        for root in [*superblock_roots(image), *item_roots(image, bad=None)]:
            for _ in Tree(image.blocks, root.at).items(bad=image.report):
                pass
        return image.faults


def test_one_copy_and_nothing_made_right(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        (reading,) = editor.get(["fs", INODE])
        assert editor.set(["fs", INODE, "uid=7"], Manner(mirror=1)).in_place == "all copies of new blocks are alike"
        assert [next(editor.get(["fs", INODE, "uid"], mirror)).fields[0][1] for mirror in (0, 1)] == [0, 7]
        block = [f"block@{reading.block}", "header.csum"]
        right = [next(editor.get(block, mirror)).fields[0][1] for mirror in (0, 1)]
        assert right[0] != right[1]
        assert editor.set(["fs", INODE, "uid=9"], Manner(mirror=1, fix=False)).in_place == "new blocks are sound"
        assert next(editor.get(block, 1)).fields[0][1] == right[1], "the checksum is wrong now"
        assert next(editor.get(["fs", INODE, "uid"], 1)).fields == (("uid", 9),)


def test_of_file_extents_the_commit_counts_the_uses_it_can(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        extent = ["fs", f"{COMPRESSED}.EXTENT_DATA.0"]
        ((_, logical),) = next(editor.get([*extent, "disk_bytenr"])).fields
        assert editor.delete(extent).in_place is None
        session.commit()
        assert not list_of(editor, ["extent", f"{logical!r}.EXTENT_ITEM"]), "nobody uses it any more"
        other = ["fs", f"{COMPRESSED}.EXTENT_DATA.131072"]
        assert "counts the uses" in str(editor.set([*other, "disk_bytenr=4096"]).in_place)
        assert "counts the uses" in str(editor.delete(other).in_place), "nor that of what was there"


def list_of(editor: ItemEditor, words: list[str]) -> list[Reading]:
    try:
        return list(editor.get(words))
    except NotFoundError:
        return []


def test_a_key_is_changed_with_other_fields(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        editor.insert(["fs", "300.INODE_ITEM.0", "nlink=1"])
        editor.set(["fs", "300.INODE_ITEM.0", "slot.key.objectid=301", "nlink+=1", "uid=5"])
        session.commit()
        assert next(editor.get(["fs", "301", "nlink", "uid"])).fields == (("nlink", 2), ("uid", 5))
        with pytest.raises(NotFoundError):
            list(editor.get(["fs", "300"]))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["super", "label=new"], "it has no copy to go to"),
        (["fs@root", "header.owner=7"], "it has no copy to go to"),
        (["fs@0", "slots[0].key=256.INODE_ITEM.1"], "it has no copy to go to"),
        (["fs", INODE, "uid=1@keep-csum"], "new blocks are sound"),
        (["fs", INODE, "uid=1@mirror:0"], "all copies of new blocks are alike"),
        (["fs", INODE, "slot.offset+=1"], "new leaves are packed anew"),
        (["fs", INODE, "shift=1"], "new leaves are packed anew"),
        (["chunk", "256.CHUNK_ITEM.*[2]", "io_align=512"], "the commit finds its own blocks by the chunks"),
        (["extent", "*.EXTENT_ITEM.*[0]", "generation=1"], "the extent tree tells of the very blocks"),
        (["free_space", "*.FREE_SPACE_INFO.*[0]", "flags=2"], "a commit counts free space itself"),
        (["dev", "1.DEV_EXTENT.*[0]", "chunk_tree=4"], "a commit allocates the devices itself"),
        (["root", "2.ROOT_ITEM.0", "bytes_used=4"], "a commit writes itself where that tree lies"),
    ],
)
def test_what_has_no_copy_to_go_to_is_done_in_place(words: list[str], why: str, forged: str, tmp_path: Path) -> None:
    undo = str(tmp_path / "undo")
    with begun([forged], undo) as session:
        done = ItemEditor(session).set(words)
        assert (done.in_place or "").startswith(why)
        assert session.pending is None


def test_items_are_inserted_and_deleted_in_both_manners(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        for manner in (Manner(), IN_PLACE):
            editor.insert(["fs", "300.INODE_EXTREF.exthash:256:name", "parent_objectid=256", "name=name"], manner)
            session.commit()
            (reading,) = editor.get(["fs", "300"])
            assert tuple(reading.records[0][1]) == (256, 0, 4, b"name")
            editor.set(["fs", "300.INODE_EXTREF", "name=another name"], manner)
            session.commit()
            assert next(editor.get(["fs", "300", "name_len"])).fields == (("name_len", 12),)
            editor.delete(["fs", "300"], manner)
            session.commit()
            with pytest.raises(NotFoundError, match="there is no such item"):
                list(editor.get(["fs", "300"]))


def test_a_new_item_has_the_structures_that_its_fields_name(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        refs = ["InlineDataRef[0].root=5", "InlineDataRef[0].count=2", "InlineSharedDataRef[0].count=1"]
        editor.insert(["extent", "1048576.EXTENT_ITEM.4096", "refs=3", "flags=ExtentFlag.DATA", *refs])
        editor.insert(["fs", "300.EXTENT_DATA.0", "type=FileExtentType.INLINE", "data=some text"])
        editor.insert(["fs", "300.EXTENT_DATA.8192", "num_bytes=4096"])
        editor.insert(["fs", "300.VERITY_DESC_ITEM.0", "size=9"])
        editor.insert(["fs", "300.VERITY_DESC_ITEM.1", "payload=0x0102"])
        editor.insert(["fs", "ORPHAN.ORPHAN_ITEM.300"])
        session.commit()
        lines = list(reading_lines(editor.get(["extent", "1048576"])))
        assert lines[0].startswith(
            "extent/1048576.EXTENT_ITEM.4096: ExtentItem InlineDataRef InlineSharedDataRef, 66 bytes"
        )
        assert [line.split() for line in lines if "count" in line] == [["[1].count", "2"], ["[2].count", "1"]]
        kinds = [[type(record).__name__ for _, record in reading.records] for reading in editor.get(["fs", "300"])]
        assert kinds == [["VerityDescriptor"], [], ["FileExtentInline"], ["FileExtent"]]
        (orphan,) = editor.get(["fs", "ORPHAN"])
        assert orphan.target == "fs/ORPHAN.ORPHAN_ITEM.300"


@pytest.mark.parametrize(
    ("verb", "words", "error", "said"),
    [
        ("set", ["fs", f"{INLINE}", "uid=1"], BtrimgError, "several items fit: 261.INODE_ITEM.0, "),
        ("set", ["fs", "999.INODE_ITEM.0", "uid=1"], NotFoundError, "there is no such item"),
        ("set", ["fs", INODE, "what=1"], NotFoundError, "there is no field what; the item holds InodeItem"),
        ("set", ["fs", INODE, "uid=4294967296"], BtrimgError, "does not fit the 32 bits"),
        ("set", ["fs", INODE], BtrimgError, "say what to set"),
        ("set", ["fs", INODE, "uid"], BtrimgError, "says no new value"),
        ("set", ["nowhere", INODE, "uid=1"], BtrimgError, "is no number and none of root, extent"),
        ("set", [], BtrimgError, "name an item"),
        ("insert", ["fs", INODE, "uid=1"], BtrimgError, "there is such an item already"),
        ("insert", ["super", "label=1"], BtrimgError, "nothing else can be inserted"),
        ("insert", ["fs", "300.INODE_ITEM.0", "uid+=1"], BtrimgError, "the item is new"),
        ("insert", ["fs", "300.INODE_ITEM.0", "name=a"], NotFoundError, "there is no field name"),
        ("delete", ["fs", INODE, "uid=1"], BtrimgError, "name one item"),
        ("delete", ["fs", "999.INODE_ITEM.0"], NotFoundError, "there is no such item"),
        ("delete", ["super"], BtrimgError, "name one item"),
        ("get", ["fs", "999"], NotFoundError, "there is no such item"),
        ("get", ["fs", INODE, "what"], NotFoundError, "there is no field what"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_and_changes_nothing(
    verb: str, words: list[str], error: type[Exception], said: str, forged: str, demo_image: str, tmp_path: Path
) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        with pytest.raises(error, match=said):
            list(getattr(ItemEditor(session), verb)(words))
        session.abort()
    assert filecmp.cmp(forged, demo_image, shallow=False)


def test_of_several_fields_all_are_set_or_none(forged: str, demo_image: str, tmp_path: Path) -> None:
    for manner in (Manner(), IN_PLACE):
        with begun([forged], str(tmp_path / "undo")) as session:
            editor = ItemEditor(session)
            with pytest.raises(NotFoundError):
                editor.set(["fs", INODE, "uid=1", "what=2"], manner)
            assert next(editor.get(["fs", INODE, "uid"])).fields == (("uid", 0),)
            session.abort()
        assert filecmp.cmp(forged, demo_image, shallow=False)


OBJECTIDS = st.sampled_from([int(each) for each in TreeId]) | st.integers(0, (1 << 64) - 1)


@given(OBJECTIDS, st.integers(0, 255), st.integers(0, (1 << 64) - 1))
def test_keys_are_written_as_they_are_read(objectid: int, key_type: int, offset: int) -> None:
    def nothing(*_: object) -> int:
        raise AssertionError

    key = Key(objectid, key_type, offset)
    assert Values(nothing).key(key_words(key)) == key


# What stands in two places


def twins(path: str) -> tuple[list[Any], list[Any]]:
    """Return system chunks and device item of the chunk tree, and those of every copy of the superblock."""
    with open_image(path, replay_log=None) as image:
        items = dict(image.tree(TreeId.CHUNK_TREE).items())
        copies: list[list[Any]] = []
        for offset in SUPERBLOCK_OFFSETS[:2]:
            superblock = Superblock.unpack(image.volume.devices[1].pread(4096, offset))
            entries = list(sys_chunks(superblock.sys_chunk_array[: superblock.sys_chunk_array_size]))
            copies.append([(Key(*key), chunk.pack()) for key, chunk in entries] + [superblock.dev_item.pack()])
        (key, _), device = copies[0][0], copies[0][1]
        assert copies[0] == copies[1]
        return [(key, items[key]), items[Key(1, ItemType.DEV_ITEM, 1)]], [copies[0][0], device]


@pytest.mark.parametrize(
    "words",
    [
        ["chunk", "256.CHUNK_ITEM.*[0]", "io_align=512", "stripes[1].dev_uuid[0]=1"],
        ["super", "sys_chunks[0].chunk.io_align=512", "sys_chunks[0].chunk.stripes[1].dev_uuid[0]=1"],
        ["chunk", "1.DEV_ITEM.1", "seek_speed=3", "dev_group=4"],
        ["super", "dev_item.seek_speed=3", "dev_item.dev_group=4"],
    ],
)
def test_what_stands_in_two_places_is_kept_the_same(words: list[str], forged: str, tmp_path: Path) -> None:
    before = twins(forged)
    with begun([forged], str(tmp_path / "undo")) as session:
        ItemEditor(session).set(words)
    tree, superblock = twins(forged)
    assert tree == superblock
    assert tree != before[0]


def test_for_who_corrupts_the_other_place_stays(demo_image: str) -> None:
    with open_image(demo_image, replay_log=None) as image:
        corruptor = Corruptor(image)
        corruptor.apply(["chunk/256.CHUNK_ITEM.*[0]/io_align=512"])
        places = ("chunk/256.CHUNK_ITEM.*[0]/io_align", "super/sys_chunks[0].chunk.io_align")
        assert [corruptor.finder.read(*parse_reference(place)) for place in places] == [512, 65536]


def test_a_system_chunk_comes_and_goes_with_its_copy(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        key = "256.CHUNK_ITEM.1099511627776"
        words = "length=65536 owner=2 stripe_len=65536 type=BlockGroup.SYSTEM num_stripes=1 stripes[+]=0x00*32"
        with pytest.raises(BtrimgError):
            editor.insert(["chunk", key, "length=1", "what=2"])
        editor.insert(["chunk", key, *words.replace("num_stripes=1 ", "").split()])
        array = [prefix for prefix, _ in next(editor.get(["super"])).records]
        assert "sys_chunks[1].chunk." in array
        editor.delete(["chunk", key])
        assert [prefix for prefix, _ in next(editor.get(["super"])).records] == array[:-2]


# Headers, slots and key pointers


def test_every_field_of_headers_slots_and_key_pointers(forged: str, demo_image: str, tmp_path: Path) -> None:
    """On the second copy of each block, so that the first one leads on."""
    undo = str(tmp_path / "undo")
    with begun([forged], undo) as session:
        editor = ItemEditor(session)
        for number in range(8):
            editor.insert(["fs", f"{5000 + number}.STRING_ITEM.0", "payload=0x61*3000"])
        session.commit()
        (leaf,) = editor.get(["fs@0", "256.INODE_ITEM.0"])
        (node,) = editor.get(["fs@root"])
        assert node.records[0][1].level == 1  # type: ignore[attr-defined]
        for block in (node, leaf):
            for prefix, record in (block.records[2], block.records[0]):
                fields = list(fields_of(record))
                words = [f"{prefix}{field.word}" for field in fields if not field.alone and field.path != "csum"]
                editor.set([block.target, *words], Manner(mirror=1))
                names = [word.partition("=")[0] for word in words]
                (reading,) = editor.get([block.target, *names], 1)
                assert [value for _, value in reading.fields] == [
                    field.value for field in fields if not field.alone and field.path != "csum"
                ]
                for name in ("csum", "nritems", "level") if prefix == "header." else ():
                    value = next(field.value for field in fields if field.path == name)
                    said = value if isinstance(value, int) else "0x" + value.hex()
                    editor.set([block.target, f"header.{name}={said}"], Manner(mirror=1))
                    assert next(editor.get([block.target, f"header.{name}"], 1)).fields[0][1] == value
    undone([forged], undo)
    assert filecmp.cmp(forged, demo_image, shallow=False)


def test_places_without_fields_are_set_whole(forged: str, tmp_path: Path) -> None:
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        data, item = "data/131158016", ["fs", "300.STRING_ITEM.0"]
        ((_, before),) = next(editor.get([f"csum-of/{data[5:]}"])).fields
        editor.set([data, "^=0xff"])
        ((_, after),) = next(editor.get(["csum-of", data[5:]])).fields
        assert before != after, "the checksum follows"
        editor.set(["csum-of", data[5:], f"=0x{before.hex()}" if isinstance(before, bytes) else ""])
        assert next(editor.get(["csum-of", data[5:]])).fields[0][1] == before
        editor.set([*item, "=0x0102"])
        session.commit()
        editor.set([*item, "^=0xff"], IN_PLACE)
        assert next(editor.get([*item, "payload"])).fields == (("payload", b"\xfe\x02"),)


@pytest.mark.progs
def test_btrfs_progs_print_headers_slots_and_key_pointers(forged: str, tmp_path: Path) -> None:
    """Set on all copies, as far as btrfs-progs read such a block at all."""
    with begun([forged], str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        for number in range(8):
            editor.insert(["fs", f"{5000 + number}.STRING_ITEM.0", "payload=0x61*3000"])
        session.commit()
        (leaf,) = editor.get(["fs@0", "256.INODE_ITEM.0"])
        (node,) = editor.get(["fs@root"])
        uuid = "00112233-4455-6677-8899-aabbccddeeff"
        header = ["header.flags|=2", f"header.chunk_tree_uuid={uuid}", "header.owner=257", "header.generation=3"]
        editor.set([leaf.target, *header, "slots[3].key.offset=2000000000"])
        slot = ["slots[1].key.offset=987654321", "slots[1].blockptr=1048576", "slots[1].generation=77"]
        editor.set([node.target, *slot])
    text = run_progs("inspect-internal", "dump-tree", "-b", str(leaf.block), forged)
    assert f"chunk uuid {uuid}" in text
    assert "generation 3 owner 257" in text
    assert "WRITTEN|RELOC" in text
    assert "DIR_ITEM 2000000000)" in text
    text = run_progs("inspect-internal", "dump-tree", "-b", str(node.block), forged)
    assert "STRING_ITEM 987654321) block 1048576 gen 77" in text


# Images that the kernel wrote

KERNEL: dict[str, Callable[[str], Sequence[str]]] = {
    "rich": bases.rich,
    "paused": odd.paused,
    "replaced": odd.replaced,
}
SOME = 2  # items of each kind


@pytest.mark.kernel
@pytest.mark.parametrize("name", KERNEL)
def test_every_field_of_items_that_the_kernel_wrote(name: str, tmp_path: Path) -> None:
    """In memory: all are set, read as what they were set to, on every copy, and nothing but their block changes."""
    devices = list(KERNEL[name](str(tmp_path)))
    seen: dict[tuple[int, str], int] = {}
    with open_image(devices, replay_log=None) as image:
        for root in [*superblock_roots(image), *item_roots(image, bad=None)]:
            for key, payload in Tree(image.blocks, root.at).items():
                for number, record in enumerate(parse_item(key, payload).records):
                    kind = (key.type, type(record).__name__)
                    seen[kind] = seen.get(kind, 0) + 1
                    if seen[kind] > SOME:
                        continue
                    corruptor, target = Corruptor(image), f"{root.id}/{key_words(key)}/[{number}]."
                    fields = [field for field in fields_of(record) if not field.alone]
                    corruptor.apply([f"{target}{field.word}" for field in fields])
                    for mirror in range(corruptor.finder.volume.chunk_map.find(root.at.logical).profile.copies):
                        for field in fields:
                            reference = parse_reference(f"{target}{field.path}@mirror:{mirror}")
                            assert corruptor.finder.read(*reference) == field.value, (target, field)
                    blocks = {piece.physical // image.volume.nodesize for piece in corruptor.pieces()}
                    assert 0 < len(blocks) <= 4
    assert len(seen) > 15


@pytest.mark.kernel
def test_a_log_is_edited_in_place(tmp_path: Path) -> None:
    devices = list(bases.log(str(tmp_path)))
    undo, before = str(tmp_path / "undo"), images.copy_sparse(devices, str(tmp_path / "before"))
    with begun(devices, undo) as session:
        editor = ItemEditor(session)
        (_, number) = next(editor.get(["log", "*.ROOT_ITEM.*[0]", "slot.key.offset"])).fields[0]
        place = [f"log:{number!r}", "*.INODE_ITEM.*[0]"]
        done = editor.set([*place, "uid=77"])
        assert done.in_place == "logs are written by kernels only"
        assert next(editor.get([*place, "uid"])).fields == (("uid", 77),)
        assert "its log tree holds changes" in str(editor.set(["fs", "256.INODE_ITEM.0", "uid=78"]).in_place)
        assert next(editor.get(["fs", "256.INODE_ITEM.0", "uid"])).fields == (("uid", 78),)
    undone(devices, undo)
    assert all(filecmp.cmp(*pair, shallow=False) for pair in zip(devices, before, strict=True))


@pytest.mark.kernel
def test_a_space_cache_is_edited_with_its_crcs(tmp_path: Path) -> None:
    size = 1280 * images.MIB  # of which a block group is a tenth: the kernel keeps no cache below 100 MiB
    devices = list(images.new_devices(str(tmp_path), 1, size))
    images.mkfs(devices, "single", options=["-R", "^free-space-tree"])
    for _ in range(2):  # the kernel does not write the cache of a block group in the mount that made it
        with kernel.mount(devices, options=["space_cache=v1"]) as top:
            fill = Filler(top)
            fill.write(b"large", fill.noise(12_000_000))  # more than the first block group takes
            for number in range(60):
                fill.write(b"many/%d" % number, fill.noise(8192))
            fill.sync()
            for number in range(0, 60, 2):
                os.unlink(fill.path(b"many/%d" % number))
            fill.sync()
    with open_image(devices, replay_log=None) as image:
        first = Key(TreeId.FREE_SPACE, ItemType.UNTYPED, 0)
        groups = [key.offset for key, _ in image.root_tree.items(first, first._replace(offset=1 << 63))]
        before = list(cached_free_space(image))
    undo = str(tmp_path / "undo")
    with begun(devices, undo) as session:
        editor = ItemEditor(session)
        group = str(groups[0])
        kinds = [f"entries[{number}].type" for number in range(8)]
        entry, _ = next(each for each in next(editor.get(["cache", group, *kinds])).fields if each[1] == 1)
        entry = entry.removesuffix(".type")
        (reading,) = editor.get(["cache", group, f"{entry}.offset", f"{entry}.bytes"])
        offset, length = (int(value) for _, value in reading.fields)
        assert (Key(offset, ItemType.FREE_SPACE_EXTENT, length), b"") in before
        editor.set(["cache", group, f"{entry}.offset+=4096", f"{entry}.bytes-=4096"])
        after = list(cached_free_space(session.image))
        assert (Key(offset + 4096, ItemType.FREE_SPACE_EXTENT, length - 4096), b"") in after
        assert len(after) == len(before)
        for field, value in (("entries[150].type", 2), ("generation", 99), ("crcs[0]", 5)):
            editor.set(["cache", group, f"{field}={value}"])
            assert next(editor.get(["cache", group, field])).fields == ((field, value),)
        with pytest.raises(NotFoundError, match="a space cache has generation"):
            editor.set(["cache", group, "what=1"])
    undone(devices, undo)
    with open_image(devices, replay_log=None) as image:
        assert list(cached_free_space(image)) == before


@pytest.mark.kernel
@pytest.mark.parametrize("profile", ["raid5", "raid6"])
def test_parity_is_kept(profile: str, tmp_path: Path) -> None:
    devices = list(images.new_devices(str(tmp_path), 4, 256 * images.MIB))
    images.mkfs(devices, profile)
    before = found_in(devices)
    with begun(devices, str(tmp_path / "undo")) as session:
        editor = ItemEditor(session)
        editor.set(["fs", "256.INODE_ITEM.0", "otime.nsec=77", "uid=3"], IN_PLACE)
        editor.set(["fs@root", "header.flags^=0"])
        editor.set(["fs", "256.INODE_ITEM.0", "gid=4"])
        session.commit()
        assert next(editor.get(["fs", "256.INODE_ITEM.0", "uid", "gid"])).fields == (("uid", 3), ("gid", 4))
    assert found_in(devices) == before


def test_checksums_are_never_shown_as_text() -> None:
    by_name = dict(Superblock.FIELDS)
    assert value_text(b"a3Zk" + bytes(28), by_name["csum"]) == "0x61335a6b"
    assert value_text(b"a3Zk" + bytes(252), by_name["label"]) == "a3Zk"


def found_in(devices: Sequence[str]) -> list[str]:
    """Return what the check finds, its scrub of all copies and parity too."""
    with open_image(devices, replay_log=None) as image:
        return [finding.sentence() for finding in check(image, list(rules().values()))]
