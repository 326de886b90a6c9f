"""Every field of every structure of the disk: set, read back by us and by btrfs-progs, and undone."""

from __future__ import annotations

import filecmp
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support import images
from support.dump_text import progs_version, run_progs

from btrimg.corrupt.assign import read_span
from btrimg.corrupt.places import in_superblock
from btrimg.edit.items import ItemEditor
from btrimg.edit.itemwords import Manner
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import DevReplace
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, ItemType, TreeId
from btrimg.ondisk.inodes import VerityDescriptor
from btrimg.ondisk.items import INLINE_REFS, ITEM_KINDS, parse_item
from btrimg.ondisk.keynames import key_words
from btrimg.ondisk.spans import parse_path
from btrimg.ondisk.superblock import Superblock
from btrimg.trees.tree import Tree
from btrimg.volume.superblocks import uuid_text

from .fieldsets import SHAPING, Field, fields_of, records
from .sessions import begun, undone

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.ondisk.record import Record

#: Where an item must stand for its type to mean what it does.
KEYS = {
    ItemType.UNTYPED: Key(TreeId.FREE_SPACE, ItemType.UNTYPED, 4096),
    ItemType.QGROUP_STATUS: Key(0, ItemType.QGROUP_STATUS, 0),
    ItemType.TEMPORARY_ITEM: Key(TreeId.BALANCE, ItemType.TEMPORARY_ITEM, 0),
    ItemType.PERSISTENT_ITEM: Key(0, ItemType.PERSISTENT_ITEM, 1),
    ItemType.DEV_REPLACE: Key(0, ItemType.DEV_REPLACE, 0),
}
#: Words that make an item with the structure, where the image has none to copy.
WORDS = {
    "InodeExtref": ["name=abc"],
    "TreeBlockInfo": ["refs=1", "flags=ExtentFlag.TREE_BLOCK", "[+]=0x00*18"],
    "BlockGroupItemV2": ["remap_bytes=1"],
    **{record.__name__: ["refs=1", f"{record.__name__}[0].offset=1"] for record in INLINE_REFS.values()},
}
#: What dump-tree and dump-super print of no item. Of flags and types they print names, which the next test compares.
UNPRINTED = {
    "InodeItem": {"reserved[0]", "reserved[3]"},
    "VerityDescriptor": set(VerityDescriptor.names()) | {"reserved[0]", "reserved[1]"},
    "RootItem": {"reserved[0]", "reserved[7]"},  # and the inode
    "FileExtent": {"encryption", "other_encoding"},
    "TreeBlockInfo": {"key.type"},
    "ExtentItemV0": {"refs"},
    "BlockGroupItem": {"flags"},
    "BlockGroupItemV2": {"flags", "remap_bytes", "identity_remap_count"},
    "Chunk": {"type"},
    "DirItem": {"type", "data"},
    "FileExtentInline": {"data", "encryption", "other_encoding"},
    "QgroupStatus": {"flags", "enable_gen"},  # the latter with simple quotas only
    "DevReplace": {"time_stopped"},  # when it started is printed in its place
    "Superblock": {
        *("magic", "dev_item.start_offset", "metadata_uuid", "nr_global_roots", "reserved", "padding"),
        *("remap_root", "remap_root_generation", "remap_root_level"),
        *(
            f"super_roots[{slot}].unused_{kind}[{at}]"
            for slot in (0, 3)
            for kind, at in ((64, 0), (64, 3), (8, 0), (8, 9))
        ),
    },
}
LATER = (6, 19)
UNPRINTED_BEFORE: dict[str, set[str]] = {  # LATER
    "ExtentOwnerRef": {"root_id"},
    "RaidStride": {"devid", "physical"},
    "RemapItem": {"address"},
    "DevReplace": set(DevReplace.names()),
    "QgroupStatus": {"flags", "enable_gen"},
}


class Case(NamedTuple):
    """An item that holds a structure."""

    key: Key
    number: int  # of the record in the item
    record: type[Record]
    fields: tuple[Field, ...]

    def words(self, fields: tuple[Field, ...]) -> list[str]:
        return ["fs", key_words(self.key), *(f"[{self.number}].{field.word}" for field in fields)]


class Edited(NamedTuple):
    image: str
    undo: str
    cases: tuple[Case, ...]
    super_fields: tuple[Field, ...]


def held(path: str) -> dict[tuple[int, str], tuple[bytes, int]]:
    """Return an item that has it, and the record's number, for each type of key and structure on the image."""
    found: dict[tuple[int, str], tuple[bytes, int]] = {}
    with open_image(path, replay_log=None) as image:
        for root in [*superblock_roots(image), *item_roots(image, bad=None)]:
            for key, payload in Tree(image.blocks, root.at).items():
                for number, record in enumerate(parse_item(key, payload).records):
                    found.setdefault((key.type, type(record).__name__), (payload, number))
    return found


@pytest.fixture(scope="module")
def edited(demo_image: str, tmp_path_factory: pytest.TempPathFactory) -> Edited:
    """Put an item of each structure into a subvolume, and set all their fields; and those of a superblock."""
    directory = tmp_path_factory.mktemp("fields")
    (image,) = images.copy_sparse([demo_image], str(directory))
    there = held(image)
    undo = str(directory / "undo")
    cases: list[Case] = []
    with begun([image], undo) as session:
        editor = ItemEditor(session)
        for number, (key_type, record) in enumerate(
            (key_type, record) for key_type, kind in sorted(ITEM_KINDS.items()) for record in kind.records
        ):
            if (key_type, record.__name__) == (ItemType.METADATA_ITEM, "TreeBlockInfo"):
                continue  # which is what that type has no more
            key = KEYS.get(ItemType(key_type), Key(1000 + number, key_type, 0))
            payload, at = there.get((key_type, record.__name__), (b"", -1))
            blank = WORDS.get(record.__name__, [f"payload=0x00*{record.SIZE}"])
            editor.insert(["fs", key_words(key), *([f"payload=0x{payload.hex()}"] if payload else blank)])
            (reading,) = editor.get(["fs", key_words(key)])
            kinds = [type(each) for _, each in reading.records]
            at = at if payload else kinds.index(record)
            cases.append(Case(key, at, record, tuple(fields_of(reading.records[at][1]))))
        session.commit()
        # Of file extents a commit counts the uses; what these use is nowhere.
        for case in sorted(cases, key=lambda case: case.key.type == ItemType.EXTENT_DATA):
            if case.key.type == ItemType.EXTENT_DATA:
                session.commit()
            together = tuple(field for field in case.fields if not field.alone)
            editor.set(case.words(together), Manner(in_place=case.key.type == ItemType.EXTENT_DATA))
        (reading,) = editor.get(["super"])
        super_fields = tuple(field for field in fields_of(reading.records[0][1]) if field.path != "csum")
        editor.set(["super", *(field.word for field in super_fields if not field.alone)], Manner(mirror=1))
    return Edited(image, undo, tuple(cases), super_fields)


def items_of(image: str) -> dict[Key, bytes]:
    with open_image(image, replay_log=None) as opened:
        return dict(opened.tree(TreeId.FS_TREE).items())


def value_at(record: object, path: str) -> object:
    """Return what a path of names and indices leads to."""
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", path):
        record = getattr(record, name) if name else record[int(index)]  # type: ignore[index]
    return record


def test_every_structure_has_its_case(edited: Edited) -> None:
    nested = {"DiskKey", "Timespec", "Stripe", "BalanceArgs"}  # each stands in others
    elsewhere = {"Superblock", "RootBackup", "Header", "Item", "KeyPtr", "FreeSpaceEntry"}  # tests of their own
    assert {record.__name__ for record in records()} == {
        case.record.__name__ for case in edited.cases
    } | nested | elsewhere
    named = {field.path for case in edited.cases for field in case.fields}
    assert {"location.objectid", "atime.sec", "stripes[1].dev_uuid", "meta.stripes_max"} <= named


def test_all_fields_read_as_what_they_were_set_to(edited: Edited) -> None:
    payloads = items_of(edited.image)
    for case in edited.cases:
        record = parse_item(case.key, payloads[case.key]).records[case.number]
        for field in case.fields:
            if not field.alone:
                assert value_at(record, field.path) == field.value, (case.key, field.path)


def spellings(field: Field) -> set[str]:
    """Return how btrfs-progs may write a value."""
    value = field.value
    if isinstance(value, bytes):
        return {value.decode(), *([uuid_text(value)] if len(value) == 16 else []), f"0x{value.hex()}"}
    halves = {str(value & 0xFFFF_FFFF), str(value >> 32)} if value >> 32 else set()
    return {str(value), f"{value:#x}", f"{value:x}", f"{value:o}"} | halves


def unprinted(text: str, fields: tuple[Field, ...]) -> set[str]:
    words = set(re.findall(r"[\w-]+", text))
    return {field.path for field in fields if not field.alone and not spellings(field) & words}


def sections(text: str, image: str) -> dict[Key, str]:
    """Return what dump-tree prints of each item of the tree of files."""
    return dict(zip(items_of(image), re.split(r"\n\titem \d+ (?=key )", text)[1:], strict=True))


@pytest.mark.progs
def test_btrfs_progs_print_what_was_set(edited: Edited) -> None:
    text = run_progs("inspect-internal", "dump-tree", "-t", "fs", edited.image)
    shown = sections(text, edited.image)
    lacking = {}
    for case in edited.cases:
        name = case.record.__name__
        allowed = UNPRINTED.get(name, set()) | (UNPRINTED_BEFORE.get(name, set()) if progs_version() < LATER else set())
        fields = tuple(field for field in case.fields if not field.path.startswith("inode."))
        if lacks := unprinted(shown[case.key], fields) - allowed:
            lacking[name] = lacks
    assert lacking == {}
    superblock = run_progs("inspect-internal", "dump-super", "-f", "-F", "-s", "1", edited.image)
    assert unprinted(superblock, edited.super_fields) <= UNPRINTED["Superblock"]


@pytest.mark.progs
def test_btrfs_progs_print_the_names_that_were_set(edited: Edited) -> None:
    """Of what is printed by names, names that the fields did not have."""
    named = {
        "Chunk": ("type=BlockGroup.METADATA|BlockGroup.RAID10", "type METADATA|RAID10"),
        "BlockGroupItem": ("flags=BlockGroup.SYSTEM|BlockGroup.RAID1", "flags SYSTEM|RAID1"),
        "QgroupStatus": ("flags=QgroupStatusFlag.ON|QgroupStatusFlag.RESCAN", "flags ON|SCANNING"),
        "DirItem": ("type=FileType.FIFO", "type FIFO"),
        "ExtentItem": ("flags=ExtentFlag.TREE_BLOCK|ExtentFlag.FULL_BACKREF", "flags TREE_BLOCK|FULL_BACKREF"),
    }
    cases = {case.record.__name__: case for case in edited.cases}
    with begun([edited.image], edited.undo + "2") as session:
        for name, (word, _) in named.items():
            case = cases[name]
            editor = ItemEditor(session)
            editor.set(["fs", key_words(case.key), f"[{case.number}].{word}"], Manner(in_place=True))
    text = run_progs("inspect-internal", "dump-tree", "-t", "fs", edited.image)
    undone([edited.image], edited.undo + "2")
    shown = sections(text, edited.image)
    for name, (_, words) in named.items():
        assert words in shown[cases[name].key]


def test_a_copy_of_the_superblock_reads_as_what_it_was_set_to(edited: Edited, demo_image: str) -> None:
    with open(edited.image, "rb") as file:
        file.seek(SUPERBLOCK_OFFSETS[1])
        record = Superblock.unpack(file.read(SUPERBLOCK_SIZE))
    for field in edited.super_fields:
        if not field.alone:
            assert value_at(record, field.path) == field.value, field.path


def test_any_field_of_all_superblocks_is_set_and_undone(forged: str, demo_image: str, tmp_path: Path) -> None:
    """One at a time: most leave nothing that can be opened, and are undone all the same."""
    with begun([forged], str(tmp_path / "unused")) as session:
        (reading,) = ItemEditor(session).get(["super"])
    fields = [
        field._replace(path=prefix + field.path)
        for prefix, record in reading.records
        for field in fields_of(record)
        if not re.match(r"csum$|super_roots\[3\]", field.path)
    ]
    for number, field in enumerate(fields):
        undo = str(tmp_path / f"undo{number}")
        with begun([forged], undo, broken=True) as session:
            ItemEditor(session).set(["super", field.word])
        for offset in SUPERBLOCK_OFFSETS[:2]:
            with open(forged, "rb") as file:
                file.seek(offset)
                data = file.read(SUPERBLOCK_SIZE)
            assert read_span(data, in_superblock(data, parse_path(field.path))) == field.value, field.path
        undone([forged], undo)
    assert len(fields) > 80
    assert filecmp.cmp(forged, demo_image, shallow=False)


def test_undo_brings_back_every_byte(demo_image: str, edited: Edited) -> None:
    assert not filecmp.cmp(edited.image, demo_image, shallow=False)
    undone([edited.image], edited.undo)
    assert filecmp.cmp(edited.image, demo_image, shallow=False)


def test_fields_that_shape_the_rest(forged: str, demo_image: str, tmp_path: Path) -> None:
    """One after the other, each set back: what is read behind it has changed meanwhile."""
    there = {each: item for each, item in held(demo_image).items() if each[1] in SHAPING}
    assert len(there) > 6
    undo = str(tmp_path / "undo")
    with begun([forged], undo) as session:
        editor = ItemEditor(session)
        cases = [
            (f"{2000 + at}.{key_type}.0", key_type, *item)
            for at, ((key_type, _), item) in enumerate(sorted(there.items()))
        ]
        for key, _, payload, _ in cases:
            editor.insert(["fs", key, f"payload=0x{payload.hex()}"])
        session.commit()
        for key, key_type, payload, number in cases:
            for field in fields_of(parse_item(Key(2000, key_type, 0), payload).records[number]):
                if field.alone:
                    path = f"[{number}].{field.path}"
                    (done,) = editor.set(["fs", key, f"{path}={field.value!r}"], Manner(in_place=True)).changes
                    (reading,) = editor.get(["fs", key, path])
                    assert (done.after, reading.fields) == (field.value, ((path, field.value),))
                    editor.set(["fs", key, f"{path}={done.before!r}"], Manner(in_place=True))
            (reading,) = editor.get(["fs", key, "payload"])
            assert reading.fields == (("payload", payload),)
    undone([forged], undo)
    assert filecmp.cmp(forged, demo_image, shallow=False)
