"""Trees with sound checksums that say impossible things: each is refused or reported, and the rest is still read."""

from __future__ import annotations

import os
import stat
import tarfile
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from support import kernel
from support.demo import (
    DEEP,
    FILES,
    INLINE,
    SPARSE,
    SYMLINK,
    TOP,
    add_name,
    change_extent,
    change_inode,
    entry,
)
from support.forge import edit_leaf, edit_superblock, write_block
from support.images import mkfs, new_devices

from btrimg.cli.export_tar import TarWriter
from btrimg.cli.main import run
from btrimg.errors import BlockError, BtrimgError, CorruptError, NotFoundError, UnsupportedError
from btrimg.filesystem.image import Image, open_image
from btrimg.filesystem.walk import walk
from btrimg.ondisk.blocks import DiskKey, Key, KeyPtr
from btrimg.ondisk.chunks import Chunk
from btrimg.ondisk.constants import FileExtentType, FileType, ItemType, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.extents import FileExtentInline
from btrimg.ondisk.inodes import DirItem, InodeItem, Timespec
from btrimg.ondisk.roots import RootItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from pathlib import Path

    Items = MutableMapping[Key, bytes]

MANY = 1 << 63


@pytest.fixture
def path(forged: str) -> str:
    return forged


@pytest.fixture
def forge(path: str) -> Callable[[Callable[[Items], None]], None]:
    """Give what edits the items of the top-level subvolume."""
    return lambda change: edit_leaf(path, TreeId.FS_TREE, change)


class Opened:
    """An opened image and what it warned of."""

    def __init__(self, path: str) -> None:
        self.said: list[str] = []
        self.image: Image = open_image(path, warn=self.said.append)

    def names(self) -> list[bytes]:
        return [inode.path for inode in walk(self.image.open(b"/"))]

    def has_said(self, text: str) -> bool:
        return any(text in each for each in self.said)


@pytest.fixture
def opened(path: str) -> Iterator[Callable[[], Opened]]:
    images: list[Opened] = []

    def get() -> Opened:
        images.append(Opened(path))
        return images[-1]

    yield get
    for each in images:
        each.image.close()


# Directories


def test_what_is_below_a_directory_without_inode_item_is_listed(forge: Any, opened: Any) -> None:
    before = opened().names()

    def lose(items: Items) -> None:
        del items[Key(FILES, ItemType.INODE_ITEM, 0)], items[Key(TOP, ItemType.INODE_ITEM, 0)]

    forge(lose)
    image = opened()
    assert image.names() == before
    assert image.has_said(f"inode {FILES} of subvolume 5 has no inode item")
    assert image.image.open(b"/files/inline.txt").read(0, 6) == b"a file"


def test_a_directory_loop_ends(forge: Any, opened: Any) -> None:
    before = opened().names()
    forge(lambda items: add_name(items, DEEP, 99, FILES, b"loop", FileType.DIR))
    image = opened()
    assert sorted(image.names()) == sorted([*before, b"/files/deep/loop"])
    assert image.has_said(f"directory {FILES} of subvolume 5 has two places")
    assert image.image.open(b"/files/deep/loop/deep/loop/inline.txt").ino == INLINE


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../../out", b"/etc/passwd", b"a\0b"])
def test_an_impossible_name_is_left_out(name: bytes, forge: Any, opened: Any) -> None:
    before = opened().names()
    forge(lambda items: items.update({Key(FILES, ItemType.DIR_INDEX, 99): entry(INLINE, name)}))
    image = opened()
    assert image.names() == before
    assert image.has_said("impossible name")


def test_of_two_equal_names_the_first_counts(forge: Any, opened: Any) -> None:
    before = opened().names()
    forge(lambda items: add_name(items, FILES, 99, DEEP, b"inline.txt", FileType.DIR))
    image = opened()
    assert image.names() == before
    assert image.has_said("twice")


@pytest.mark.parametrize("changes", [{"name_len": 0xFFFF}, {"data_len": 0xFFFF}, {"name_len": 3}])
def test_a_lie_about_the_length_of_a_name_is_reported(changes: dict[str, int], forge: Any, opened: Any) -> None:
    before = opened().names()
    lie = bytearray(entry(INLINE, b"lie"))
    at = {"name_len": DirItem.SIZE - 3, "data_len": DirItem.SIZE - 5}
    for field, value in changes.items():
        lie[at[field] : at[field] + 2] = (value if value != 3 else 2).to_bytes(2, "little")
    forge(lambda items: items.update({Key(FILES, ItemType.DIR_INDEX, 99): bytes(lie)}))
    image = opened()
    assert image.names() == before
    assert image.has_said("DIR_INDEX of")


def test_a_name_that_leads_to_no_inode_is_listed_and_reported(path: str, forge: Any, capsys: Any) -> None:
    forge(lambda items: add_name(items, FILES, 99, 4_000_000, b"nowhere"))
    assert run(["ls", f"{path}:/files"]) == 0
    assert "nowhere" in capsys.readouterr().out
    assert run(["ls", "-l", f"{path}:/files"]) == 1
    said = capsys.readouterr()
    assert "inode 4000000 of subvolume 5 has no inode item" in said.err
    assert "inline.txt" in said.out


def test_a_symlink_to_itself_is_followed_forty_times(forge: Any, opened: Any) -> None:
    target = FileExtentInline(1, 7, 0, 0, 0, FileExtentType.INLINE, b"symlink")
    forge(lambda items: items.update({Key(SYMLINK, ItemType.EXTENT_DATA, 0): target.pack()}))
    forge(lambda items: change_inode(items, SYMLINK, size=7))
    with pytest.raises(NotFoundError, match="too many symbolic links"):
        opened().image.open(b"/files/deep/er/symlink")


@pytest.mark.kernel
@pytest.mark.progs
def test_a_deep_nest_takes_no_memory_beyond_its_size(tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path / "deep"), 1, 256 << 20)
    mkfs(paths)
    with kernel.mount(paths) as top:
        fd = os.open(top, os.O_RDONLY)
        for _ in range(1000):
            os.mkdir("d" * 255, dir_fd=fd)
            fd, above = os.open("d" * 255, os.O_RDONLY, dir_fd=fd), fd
            os.close(above)
        os.close(fd)
    tracemalloc.start()
    try:
        with open_image(paths) as image, open(os.devnull, "wb") as null, TarWriter(null, verify=True) as writer:
            for inode in walk(image.open(b"/")):
                writer.add(inode.path[1:], inode)
            assert len(inode.path) == 1000 * 256
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20  # all paths are 128 MB


# Inodes and xattrs


@pytest.mark.parametrize("size", [MANY - 1, MANY, 2 * MANY - 1])
def test_an_endless_file_is_read_where_it_is_asked_for(size: int, path: str, forge: Any, opened: Any) -> None:
    forge(lambda items: change_inode(items, SPARSE, size=size))
    inode = opened().image.open(b"/files/sparse.raw")
    assert len(inode.read(0, 1 << 20)) == 1 << 20
    assert inode.read(MANY - 10, 5) == bytes(5)
    assert inode.resolve(MANY - 10).kind == "hole"
    for arguments in (["ls", "-lR", path], ["stat", f"{path}:/files/sparse.raw"], ["extents", path, "--holes"]):
        assert run(arguments) in (0, 1)


def test_a_long_symlink_is_refused(forge: Any, opened: Any) -> None:
    forge(lambda items: change_inode(items, SYMLINK, size=MANY))
    with pytest.raises(CorruptError, match=f"has {MANY} bytes"):
        opened().image.open(b"/files/deep/er/symlink")


def test_a_lie_about_the_length_of_an_xattr_is_refused(forge: Any, opened: Any) -> None:
    lie = bytearray(DirItem(DiskKey(0, 0, 0), 1, 5, 6, FileType.XATTR, b"user.x", b"value").pack())
    lie[DirItem.SIZE - 5] = 200
    forge(lambda items: items.update({Key(INLINE, ItemType.XATTR_ITEM, 7): bytes(lie)}))
    with pytest.raises(CorruptError, match="XATTR_ITEM of"):
        opened().image.open(b"/files/inline.txt").xattrs()


# File extents


@pytest.mark.parametrize(
    "changes",
    [
        {"num_bytes": 0},
        {"num_bytes": MANY},
        {"offset": 2 * MANY - 1},
        {"ram_bytes": 1},
        {"ram_bytes": MANY},
        {"disk_num_bytes": 1},
        {"type": 7},
        {"compression": 9},
        {"encryption": 1},
    ],
)
def test_a_file_extent_that_cannot_be_is_refused(changes: dict[str, int], path: str, forge: Any, opened: Any) -> None:
    forge(lambda items: change_extent(items, SPARSE, **changes))
    image = opened()
    with pytest.raises((CorruptError, UnsupportedError), match=f"inode {SPARSE}"):
        image.image.open(b"/files/sparse.raw").read(0, 1 << 20)
    assert image.image.extents().rows == 19  # 20 without the lie
    assert image.has_said(f"inode {SPARSE}")
    assert run(["ls", "-lR", path]) == 0


@pytest.mark.parametrize("logical", [4096, MANY - 4096, MANY, 2 * MANY - 4096])
def test_an_extent_outside_of_all_chunks_is_refused(logical: int, forge: Any, opened: Any) -> None:
    forge(lambda items: change_extent(items, SPARSE, disk_bytenr=logical))
    image = opened()
    inode = image.image.open(b"/files/sparse.raw")
    row = next(inode.extents())
    with pytest.raises(CorruptError, match="no chunk"):
        inode.resolve(row.offset)
    with pytest.raises(CorruptError):
        inode.read(row.offset, 4096)
    with pytest.raises(CorruptError):
        inode.read(row.offset, 4096, verify=False)
    assert image.image.extents().rows == (20 if logical < MANY else 19)


def test_an_extent_of_half_the_address_space_ends_with_the_device(forge: Any, opened: Any) -> None:
    much = MANY >> 2
    forge(lambda items: change_extent(items, SPARSE, num_bytes=much, ram_bytes=much, disk_num_bytes=much))
    forge(lambda items: change_inode(items, SPARSE, size=much))
    image = opened().image
    inode = image.open(b"/files/sparse.raw")
    with pytest.raises(CorruptError, match="no chunk"):
        inode.read(0, 1 << 30, verify=False)
    with pytest.raises(CorruptError, match="no chunk"):
        list(inode.extents(pieces=True))
    assert image.extents(pieces=True).rows == image.extents().rows


def test_overlapping_extents_are_refused(forge: Any, opened: Any) -> None:
    def overlap(items: Items) -> None:
        key = min(key for key in items if key[:2] == (SPARSE, ItemType.EXTENT_DATA))
        items[key._replace(offset=key.offset + 4096)] = items[key]

    forge(overlap)
    inode = opened().image.open(b"/files/sparse.raw")
    with pytest.raises(CorruptError, match="overlap"):
        list(inode.extents())
    with pytest.raises(CorruptError, match="overlap"):
        inode.read(0, 1 << 20)


@pytest.mark.parametrize("key_offset", [4096, MANY, 2 * MANY - 1])
def test_inline_data_stands_at_the_start_of_a_file(key_offset: int, forge: Any, opened: Any) -> None:
    def move(items: Items) -> None:
        items[Key(INLINE, ItemType.EXTENT_DATA, key_offset)] = items.pop(Key(INLINE, ItemType.EXTENT_DATA, 0))
        change_inode(items, INLINE, size=2 * MANY - 1)

    forge(move)
    image = opened()
    with pytest.raises(CorruptError, match=f"at {key_offset} of inode {INLINE}"):
        list(image.image.open(b"/files/inline.txt").extents())
    assert INLINE not in image.image.extents().inode[image.image.extents().subvolume == TreeId.FS_TREE]
    assert image.has_said(f"at {key_offset} of inode {INLINE}")


@pytest.mark.parametrize("ram_bytes", [0, 10, 4096, 1 << 17])
def test_inline_data_are_as_long_as_they_are(ram_bytes: int, forge: Any, opened: Any) -> None:
    before = opened().image.open(b"/files/inline.txt").read(0, 4096)
    forge(lambda items: change_extent(items, INLINE, ram_bytes=ram_bytes))
    assert opened().image.open(b"/files/inline.txt").read(0, 4096) == before


@pytest.mark.parametrize("compression", [1, 2, 3])
def test_a_stream_of_another_compression_is_refused(compression: int, forge: Any, opened: Any) -> None:
    forge(lambda items: change_extent(items, INLINE, compression=compression))
    with pytest.raises(CorruptError):
        opened().image.open(b"/files/inline.txt").read(0, 4096)


# Trees


def _turn_into_node(path: str, child: Callable[[int], int], level: int = 1) -> None:
    """Make a node of the top-level subvolume's root, a leaf; it points at child(its address)."""
    with open_image(path, warn=print) as image:
        pointer = image.tree(TreeId.FS_TREE).root
        header = image.blocks.read(pointer).header.replace(level=level, nritems=1)
        slot = KeyPtr(DiskKey(TOP, ItemType.INODE_ITEM, 0), child(pointer.logical), header.generation)
        data = (header.pack() + slot.pack()).ljust(image.volume.nodesize, b"\0")
        write_block(image, path, pointer.logical, data)
    change_root(path, level=level)


def change_root(path: str, tree_id: int = TreeId.FS_TREE, **changes: Any) -> None:
    def change(items: Items) -> None:
        key = Key(tree_id, ItemType.ROOT_ITEM, 0)
        items[key] = RootItem.unpack(items[key]).replace(**changes).pack()

    edit_leaf(path, TreeId.ROOT_TREE, change, Key(tree_id, ItemType.ROOT_ITEM, 0))


@pytest.mark.parametrize("level", [1, 7])
@pytest.mark.parametrize(
    "child", [lambda own: own, lambda own: own + 4096, lambda _: 0, lambda _: MANY, lambda _: 2 * MANY - 1]
)
def test_a_node_that_leads_nowhere_ends_the_search(child: Callable[[int], int], level: int, path: str) -> None:
    _turn_into_node(path, child, level)
    image = Opened(path)
    with image.image:
        with pytest.raises(BlockError):
            image.image.open(b"/files")
        assert image.image.extents().rows > 0  # of the other subvolumes
        assert image.said
    assert run(["inspect", "dump-tree", path]) == 1
    assert run(["inspect", "dump-tree", "--dfs", "-t", "fs", path]) == 1


@pytest.mark.parametrize("changes", [{"level": 1}, {"level": 8}, {"level": 255}, {"bytenr": 1}, {"generation": 1}])
def test_a_root_item_that_lies_keeps_the_other_trees_readable(changes: dict[str, int], path: str) -> None:
    change_root(path, **changes)
    image = Opened(path)
    with image.image:
        with pytest.raises(BlockError):
            image.image.open(b"/files")
        assert image.image.open(b"/disk.raw", subvolume=256).read(0, 4096)
        assert image.image.extents().rows > 0
        assert image.said
    assert run(["inspect", "dump-tree", path]) == 1


def test_the_top_directory_may_be_anywhere(path: str) -> None:
    change_root(path, root_dirid=INLINE)
    with open_image(path, warn=print) as image:
        assert list(walk(image.open(b"/"))) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"length": 0},
        {"length": 2 * MANY - 1},
        {"stripe_len": 0},
        {"stripe_len": 1 << 31},
        {"type": 0xFFFF_FFFF},
        {"type": 1 | 1 << 3 | 1 << 4},
        {"stripes": (), "num_stripes": 0},
    ],
)
def test_a_chunk_that_cannot_be_loses_only_what_is_in_it(changes: dict[str, Any], path: str) -> None:
    def change(items: Items) -> None:
        key = max(key for key in items if key.type == ItemType.CHUNK_ITEM and items[key])
        data = [key for key in items if key.type == ItemType.CHUNK_ITEM and Chunk.unpack(items[key]).type & 1]
        for key in data:
            items[key] = Chunk.unpack(items[key]).replace(**changes).pack()

    edit_leaf(path, TreeId.CHUNK_TREE, change)
    image = Opened(path)
    with image.image:
        assert image.names()
        with pytest.raises(CorruptError, match="no chunk"):
            image.image.open(b"/files/sparse.raw").resolve(
                next(image.image.open(b"/files/sparse.raw").extents()).offset
            )
        assert image.image.extents(pieces=True).rows > 0
        assert image.has_said("chunk")
    assert run(["inspect", "list-chunks", path]) in (0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"root": 0},
        {"root": 2 * MANY - 1},
        {"root_level": 7},
        {"chunk_root": 4096},
        {"chunk_root_level": 3},
        {"generation": 1},
        {"log_root": 4096},
        {"nodesize": 65536},
        {"nodesize": 4096},
        {"sectorsize": 16384},
        {"csum_type": 3},
        {"sys_chunk_array_size": 0},
        {"sys_chunk_array_size": 2049},
        {"sys_chunk_array_size": 17},
    ],
)
def test_a_superblock_that_lies_ends_in_one_sentence(changes: dict[str, int], path: str) -> None:
    edit_superblock(path, lambda superblock: superblock.replace(**changes))
    for arguments in (["ls", "-lR", path], ["extents", path], ["inspect", "dump-tree", path]):
        try:
            run(arguments)
        except BtrimgError as error:
            assert str(error)  # noqa: PT017 (some lies do no harm)


# Export


def _tree_of(top: str) -> dict[str, int]:
    return {
        os.path.relpath(os.path.join(where, name), top): os.lstat(os.path.join(where, name)).st_mode
        for where, directories, files in os.walk(top)
        for name in (*directories, *files)
    }


def _add_trap(items: Items, outside: bytes) -> None:
    """Add a symlink that leads *outside*, and a directory of the same name that holds a file."""
    link, trap = 1000, 1001
    items[Key(link, ItemType.INODE_ITEM, 0)] = (
        InodeItem.unpack(items[Key(SYMLINK, ItemType.INODE_ITEM, 0)]).replace(size=len(outside)).pack()
    )
    items[Key(link, ItemType.EXTENT_DATA, 0)] = FileExtentInline(
        1, len(outside), 0, 0, 0, FileExtentType.INLINE, outside
    ).pack()
    items[Key(trap, ItemType.INODE_ITEM, 0)] = items[Key(DEEP, ItemType.INODE_ITEM, 0)]
    add_name(items, FILES, 90, link, b"trap", FileType.SYMLINK)
    items[Key(FILES, ItemType.DIR_INDEX, 91)] = entry(trap, b"trap", FileType.DIR)
    add_name(items, trap, 2, INLINE, b"written")


def test_export_stays_inside_its_target(path: str, forge: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    forge(lambda items: _add_trap(items, bytes(outside)))
    assert run(["export", path, str(tmp_path / "out")]) == 1
    assert list(outside.iterdir()) == []
    assert stat.S_ISLNK(_tree_of(str(tmp_path / "out"))["files/trap"])
    assert run(["export", path, str(tmp_path / "out.tar")]) == 1
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = archive.getnames()
        assert len(names) == len(set(names))
        assert "files/trap" in names
        assert "files/trap/written" not in names


def _absurd_time() -> dict[str, Timespec]:
    return {name: Timespec(MANY - 1, 0xFFFF_FFFF) for name in ("atime", "mtime", "ctime", "otime")}


def _xattr(name: bytes, value: bytes = b"v") -> dict[Key, bytes]:
    item = DirItem(DiskKey(0, 0, 0), 1, len(value), len(name), FileType.XATTR, name, value)
    return {Key(SPARSE, ItemType.XATTR_ITEM, name_hash(name)): item.pack()}


ODDITIES: dict[str, Callable[[Items], Any]] = {
    "endless": lambda items: change_inode(items, SPARSE, size=2 * MANY - 1),
    "time": lambda items: change_inode(items, SPARSE, **_absurd_time()),
    "directory-time": lambda items: change_inode(items, DEEP, **_absurd_time()),
    "device": lambda items: change_inode(items, SPARSE, mode=stat.S_IFCHR | 0o600, rdev=2 * MANY - 1),
    "kind": lambda items: change_inode(items, SPARSE, mode=0o170000),
    "owner": lambda items: change_inode(items, SPARSE, uid=0xFFFF_FFFF, gid=0xFFFF_FFFF),
    "xattr-name-not-utf8": lambda items: items.update(_xattr(b"user.\xff")),
    "xattr-name-with-nul": lambda items: items.update(_xattr(b"user.\0x")),
    "xattr-name-empty": lambda items: items.update(_xattr(b"")),
    "xattr-name-long": lambda items: items.update(_xattr(b"user." + b"x" * 1000)),
    "xattr-name-equals": lambda items: items.update(_xattr(b"user.a=b")),
    "xattr-namespace": lambda items: items.update(_xattr(b"\xff.\n")),
    "no-inode": lambda items: items.pop(Key(SPARSE, ItemType.INODE_ITEM, 0)),
    "no-directory-inode": lambda items: items.pop(Key(DEEP, ItemType.INODE_ITEM, 0)),
    "no-top-inode": lambda items: items.pop(Key(TOP, ItemType.INODE_ITEM, 0)),
    "no-checksum": lambda items: change_extent(items, SPARSE, disk_bytenr=120 << 20),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_one_odd_inode_keeps_no_other_from_being_exported(
    name: str, path: str, forge: Any, tmp_path: Path, capfd: Any
) -> None:
    forge(ODDITIES[name])
    assert run(["export", path, str(tmp_path / "out")]) in (0, 1)
    found = _tree_of(str(tmp_path / "out"))
    assert run(["export", path, str(tmp_path / "out.tar")]) in (0, 1)
    with tarfile.open(tmp_path / "out.tar", errors="surrogateescape") as archive:
        archived = archive.getnames()
    expected = {"files/inline.txt", "files/nocow.raw", "files/compressed.txt", "vm/disk.raw", "vm-monday/part.raw"}
    assert expected <= found.keys()
    assert expected <= set(archived)
    assert capfd.readouterr().err.count("is left out") <= (8 if name == "no-directory-inode" else 2)


def test_a_symlink_that_the_host_cannot_hold_is_left_out(path: str, forge: Any, tmp_path: Path, capfd: Any) -> None:
    def nul(items: Items) -> None:
        items[Key(SYMLINK, ItemType.EXTENT_DATA, 0)] = FileExtentInline(
            1, 3, 0, 0, 0, FileExtentType.INLINE, b"a\0b"
        ).pack()
        change_inode(items, SYMLINK, size=3)

    forge(nul)
    assert run(["export", path, str(tmp_path / "out")]) == 1
    assert "/files/deep/er/symlink' is left out" in capfd.readouterr().err
    assert "files/inline.txt" in _tree_of(str(tmp_path / "out"))
    assert run(["export", path, str(tmp_path / "out.tar")]) in (0, 1)


def test_a_symlink_that_cannot_be_read_keeps_no_other_from_being_listed(path: str, forge: Any, capsys: Any) -> None:
    forge(lambda items: change_extent(items, SYMLINK, compression=77))
    for arguments in (["ls", "-lR", path], ["ls", "-R", "--json", path]):
        assert run(arguments) == 1
        said = capsys.readouterr()
        assert "compression 77 is not known" in said.err
        assert "caf" in said.out  # the last one
