"""Names, extents and checksums changed in an overlay, against plain models; and logs as old kernels wrote them."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.listed import ListedTree
from support.populate import COLLIDING

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem import edit_names, logtree
from btrimg.filesystem.edit_extents import drop_extents, put_csums
from btrimg.filesystem.namei import Link
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.constants import FileExtentType, FileType, Incompat, ItemType, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.ondisk.inodes import DirItem, DirLogItem, InodeItem, InodeRef
from btrimg.trees.overlay import OverlayTree

SECTOR = 4096
INO, DIRECTORY, OTHER = 300, 256, 257


def inode(mode: int = stat.S_IFREG, **fields: Any) -> bytes:
    return (
        InodeItem.unpack(bytes(InodeItem.SIZE)).replace(**{"generation": 5, "mode": mode, "nlink": 1, **fields}).pack()
    )


def inode_of(tree: OverlayTree, ino: int) -> InodeItem:
    return InodeItem.unpack(tree.get(edit_names.inode_key(ino)))


# Extents


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 5), st.sampled_from(("data", "hole", "prealloc"))), max_size=5
    ),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_dropping_extents_leaves_every_other_sector_where_it_was(
    layout: list[tuple[int, int, str]], first: int, count: int
) -> None:
    items: dict[Key, bytes] = {}
    sectors: dict[int, tuple[int, int]] = {}  # of the file: type, and where it lies; 0 in holes
    offset = 0
    for number, (gap, length, kind) in enumerate(layout, 1):
        offset += gap
        logical = 0 if kind == "hole" else number * 100 * SECTOR
        kept = FileExtentType.PREALLOC if kind == "prealloc" else FileExtentType.REGULAR
        extent = FileExtent(7, 50 * SECTOR, 0, 0, 0, kept, logical, 50 * SECTOR, 9 * SECTOR, length * SECTOR)
        items[Key(INO, ItemType.EXTENT_DATA, offset * SECTOR)] = extent.pack()
        for each in range(length):
            sectors[offset + each] = (kept, logical and logical + (9 + each) * SECTOR)
        offset += length
    tree = OverlayTree(ListedTree(items))
    freed = drop_extents(tree, INO, first * SECTOR, (first + count) * SECTOR)
    left = {at: where for at, where in sectors.items() if not first <= at < first + count}
    found = {}
    for key, payload in tree.items():
        item = FileExtent.unpack(payload)
        for each in range(item.num_bytes // SECTOR):
            place = item.disk_bytenr and item.disk_bytenr + item.offset + each * SECTOR
            found[key.offset // SECTOR + each] = (item.type, place)
    assert found == left
    assert freed == SECTOR * sum(bool(place) for at, (_, place) in sectors.items() if at not in left)


def test_inline_extents_go_whole_or_not_at_all() -> None:
    key = Key(INO, ItemType.EXTENT_DATA, 0)
    tree = OverlayTree(ListedTree({key: FileExtentInline(7, 100, 0, 0, 0, FileExtentType.INLINE, bytes(100)).pack()}))
    assert drop_extents(tree, INO, SECTOR, 9 * SECTOR) == 0
    with pytest.raises(CorruptError, match=r"\[50, 4096\) cuts the inline extent at 0"):
        drop_extents(tree, INO, 50, SECTOR)
    assert drop_extents(tree, INO, 0, SECTOR) == 100
    assert list(tree.items()) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), max_size=8))
def test_the_newest_checksum_of_every_sector_wins(writes: list[tuple[int, int]]) -> None:
    tree = OverlayTree(ListedTree({}))
    expected: dict[int, bytes] = {}
    for number, (first, count) in enumerate(writes):
        sums = [bytes([number, each, 0, 1]) for each in range(count)]
        put_csums(tree, first * SECTOR, b"".join(sums), 4, SECTOR)
        expected.update(enumerate(sums, first))
    found: dict[int, bytes] = {}
    for key, payload in tree.items():
        assert (key.objectid, key.type) == (TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM)
        each = {key.offset // SECTOR + at: payload[4 * at : 4 * at + 4] for at in range(len(payload) // 4)}
        assert found.keys().isdisjoint(each), "items overlap"
        found |= each
    assert found == expected


# Names

# Colliding pairs, and names so long that one INODE_REF of a 4 KiB leaf holds few of them.
LINKS = st.tuples(
    st.sampled_from((DIRECTORY, OTHER)), st.sampled_from([*COLLIDING, *(b"%03d" % n + b"n" * 250 for n in range(30))])
)


@given(st.lists(LINKS, unique=True, max_size=60), st.randoms(use_true_random=False))
def test_names_come_and_go_in_all_three_places(names: list[tuple[int, bytes]], rng: Any) -> None:
    empty = {edit_names.inode_key(ino): inode(stat.S_IFDIR) for ino in (DIRECTORY, OTHER)}
    tree = OverlayTree(ListedTree(empty | {edit_names.inode_key(INO): inode()}))
    where = DiskKey(*edit_names.inode_key(INO))
    for index, (parent, name) in enumerate(names, 2):
        assert not edit_names.knows_name(tree, INO, parent, name)
        edit_names.add_ref(tree, INO, Link(parent, index, name))
        edit_names.add_entry(tree, parent, index, DirItem(where, 9, 0, len(name), FileType.REG_FILE, name, b""))
    assert all(edit_names.knows_name(tree, INO, *each) for each in names)
    assert all(len(payload) <= 4096 - 101 - 25 for _, payload in tree.items())
    rng.shuffle(names)
    for gone, (parent, name) in enumerate(names, 1):
        found = edit_names.entry_named(tree, parent, name)
        assert found is not None
        assert (found.name, found.location) == (name, where)
        edit_names.unlink(tree, parent, INO, name)
        assert edit_names.entry_named(tree, parent, name) is None
        left = names[gone:]
        for directory in (DIRECTORY, OTHER):
            sizes = [2 * len(other) for parent, other in left if parent == directory]
            assert inode_of(tree, directory).size == sum(sizes)
            assert len(list(tree.items(Key(directory, 96, 0), Key(directory, 96, 1 << 60)))) == len(sizes)
    assert {key.type for key, _ in tree.items()} == {ItemType.INODE_ITEM}
    with pytest.raises(BtrimgError, match="has no entry"):
        edit_names.unlink(tree, DIRECTORY, INO, b"never")


# Logs that today's kernel does not write, but replays


def replay(base: dict[Key, bytes], log: dict[Key, bytes]) -> OverlayTree:
    tree = OverlayTree(ListedTree(base))
    superblock = SimpleNamespace(generation=9, incompat_flags=Incompat.NO_HOLES)
    image: Any = SimpleNamespace(volume=SimpleNamespace(sectorsize=SECTOR), superblock=superblock)
    logtree._Replay(image, ListedTree(log), tree).run()
    return tree


def file_named(name: bytes, ino: int, index: int) -> dict[Key, bytes]:
    """Return the items of an empty file in the top directory, whose inode is not among them."""
    entry = entry_to(ino, name)
    return {
        Key(DIRECTORY, ItemType.DIR_ITEM, name_hash(name)): entry,
        Key(DIRECTORY, ItemType.DIR_INDEX, index): entry,
        edit_names.inode_key(ino): inode(),
        edit_names.ref_key(ino, DIRECTORY): InodeRef(index, len(name), name).pack(),
    }


def entry_to(ino: int, name: bytes) -> bytes:
    return DirItem(DiskKey(*edit_names.inode_key(ino)), 7, 0, len(name), FileType.REG_FILE, name, b"").pack()


TOP = {
    edit_names.inode_key(DIRECTORY): inode(stat.S_IFDIR, size=8),
    edit_names.ref_key(DIRECTORY, DIRECTORY): InodeRef(0, 2, b"..").pack(),
}
LOGGED_TOP = {
    edit_names.inode_key(DIRECTORY): inode(stat.S_IFDIR | 0o700, size=999),
    Key(DIRECTORY, ItemType.DIR_LOG_INDEX, 2): DirLogItem(50).pack(),
}


def test_an_entry_in_the_log_alone_links_an_inode_that_is_there() -> None:
    base = TOP | file_named(b"file", INO, 2)
    log = LOGGED_TOP | {
        Key(DIRECTORY, ItemType.DIR_INDEX, 2): entry_to(INO, b"file"),
        Key(DIRECTORY, ItemType.DIR_INDEX, 3): entry_to(INO, b"link"),
        Key(DIRECTORY, ItemType.DIR_INDEX, 4): entry_to(999, b"new"),  # not logged, so it is not there
    }
    tree = replay(base, log)
    assert inode_of(tree, INO).nlink == 2
    assert edit_names.links_at(tree, edit_names.ref_key(INO, DIRECTORY)) == [
        Link(DIRECTORY, 2, b"file"),
        Link(DIRECTORY, 3, b"link"),
    ]
    assert edit_names.entry_named(tree, DIRECTORY, b"link") is not None
    assert edit_names.entry_named(tree, DIRECTORY, b"new") is None
    assert (inode_of(tree, DIRECTORY).size, inode_of(tree, DIRECTORY).mode & 0o777) == (16, 0o700)


def test_an_entry_in_the_log_takes_a_name_over() -> None:
    log = LOGGED_TOP | {Key(DIRECTORY, ItemType.DIR_INDEX, 3): entry_to(INO + 1, b"file")}
    base = TOP | file_named(b"file", INO, 60) | file_named(b"old", INO + 1, 61)
    tree = replay(base, log)
    found = edit_names.entry_named(tree, DIRECTORY, b"file")
    assert found is not None
    assert found.location.objectid == INO + 1
    assert (inode_of(tree, INO).nlink, inode_of(tree, INO + 1).nlink) == (0, 2)
    assert tree.get(Key(TreeId.ORPHAN, ItemType.ORPHAN_ITEM, INO)) == b""


def test_an_inode_that_had_no_name_is_not_replayed() -> None:
    extent = FileExtentInline(7, 3, 0, 0, 0, FileExtentType.INLINE, b"abc").pack()
    log = {
        edit_names.inode_key(INO): inode(nlink=0, size=3),
        Key(INO, ItemType.EXTENT_DATA, 0): extent,
    }
    assert dict(replay(TOP, log).items()) == TOP


def test_an_inode_logged_only_to_exist_changes_at_most_its_size() -> None:
    base = TOP | file_named(b"file", INO, 2)
    base[edit_names.inode_key(INO)] = inode(generation=5, size=10, uid=1, nbytes=0)
    tree = replay(base, {edit_names.inode_key(INO): inode(generation=0, size=0, uid=2)})
    assert (inode_of(tree, INO).size, inode_of(tree, INO).uid) == (10, 1)
    tree = replay(base, {edit_names.inode_key(INO): inode(generation=0, size=7, uid=2)})
    assert (inode_of(tree, INO).size, inode_of(tree, INO).uid) == (7, 1)


def test_a_log_that_removes_a_directory_removes_what_is_below() -> None:
    folder = {
        edit_names.inode_key(OTHER): inode(stat.S_IFDIR, size=8),
        edit_names.ref_key(OTHER, DIRECTORY): InodeRef(3, 6, b"folder").pack(),
        edit_names.inode_key(INO): inode(),
        edit_names.ref_key(INO, OTHER): InodeRef(2, 4, b"file").pack(),
        Key(OTHER, ItemType.DIR_ITEM, name_hash(b"file")): entry_to(INO, b"file"),
        Key(OTHER, ItemType.DIR_INDEX, 2): entry_to(INO, b"file"),
        Key(DIRECTORY, ItemType.DIR_ITEM, name_hash(b"folder")): entry_to(OTHER, b"folder"),
        Key(DIRECTORY, ItemType.DIR_INDEX, 3): entry_to(OTHER, b"folder"),
    }
    tree = replay(TOP | folder, LOGGED_TOP)
    assert inode_of(tree, OTHER).nlink == inode_of(tree, INO).nlink == 0
    assert [key.offset for key, _ in tree.items(Key(TreeId.ORPHAN, 0, 0))] == [OTHER, INO]
    assert not any(key.type in (ItemType.DIR_ITEM, ItemType.DIR_INDEX) for key, _ in tree.items())


def test_a_log_that_needs_what_is_not_there_is_refused() -> None:
    with pytest.raises(BtrimgError, match="needs inode 300, which is not there"):
        replay(TOP, {Key(INO, ItemType.EXTENT_DATA, 0): bytes(FileExtent.SIZE)})
    twice = {Key(DIRECTORY, ItemType.DIR_INDEX, 2): entry_to(INO, b"link")}
    with pytest.raises(BtrimgError, match="two entries with the index 2"):
        replay(TOP | file_named(b"file", INO, 2), twice)
