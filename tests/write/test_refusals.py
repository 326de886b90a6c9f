"""What the files do not allow is refused with a sentence, before anything is changed."""

from __future__ import annotations

import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.populate import COLLIDING

from btrimg.errors import CorruptError, NotFoundError, RefusedError
from btrimg.filesystem.edit_names import inode_key, ref_key
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import InodeFlag, ItemType, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import DirItem, InodeItem, Timespec
from btrimg.volume.fresh import fresh_devices
from btrimg.write import contents, inodes, moves, names, reflink, subvolumes, xattrs
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import new_options
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOP = subvolumes.TOP_DIRECTORY
REGULAR, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
MIB = 1 << 20


class Scene:
    """A directory with files, a subvolume in a subvolume, and a snapshot of the outer one."""

    def __init__(self, txn: Any) -> None:
        self.txn, self.sink = txn, DataSink(txn)
        self.storage = Storage(self.sink)
        self.files = Files(txn, TreeId.FS_TREE)
        self.directory = self.make(b"directory", DIRECTORY)
        self.file = self.make(b"file")
        contents.write(self.files, self.file, 0, bytes(range(256)) * 40, self.storage)
        self.unsummed = self.make(b"unsummed", flags=InodeFlag.NODATASUM)
        self.sealed = self.make(b"sealed", flags=InodeFlag.VERITY)
        self.outer = subvolumes.create(self.files, TOP, b"outer")
        self.inner = subvolumes.create(self.outer, TOP, b"inner")
        self.copy = subvolumes.snapshot(self.outer, self.files, TOP, b"copy")
        self.make(b"inside", directory=self.directory)

    def make(self, name: bytes, mode: int = REGULAR, flags: int = 0, directory: int = TOP) -> int:
        ino = inodes.create(self.files, mode, flags=flags)
        names.enter(self.files, directory, name, ino, inodes.file_type(mode))
        return ino


@contextmanager
def scene(directory: Path, **choices: Any) -> Iterator[Scene]:
    uuids = seeded(b"refusals")
    options = new_options([256 * MIB], uuids, **choices)
    with fresh_devices([str(directory / "image")], [256 * MIB]) as fresh:
        now = Timespec(0, 0)
        with make_filesystem(options, fresh.devices, fresh.sink, now=now, uuids=uuids, warn=pytest.fail) as txn:
            made = Scene(txn)
            yield made
            made.sink.close()


def enter(scene: Scene, name: bytes) -> None:
    names.enter(scene.files, TOP, name, scene.file, inodes.file_type(REGULAR))


def clone(scene: Scene, ino: int, offset: int, length: int, target: int, at: int) -> None:
    reflink.clone_range(scene.files, ino, offset, length, scene.files, target, at, scene.storage)


REFUSED: list[tuple[Callable[[Scene], Any], str]] = [
    (lambda s: enter(s, b""), "a name of 0 bytes cannot be"),
    (lambda s: enter(s, b"n" * 256), "a name of 256 bytes cannot be: a name has 1 to 255"),
    (lambda s: enter(s, b"a/b"), "no file can be called 'a/b'"),
    (lambda s: enter(s, b"a\0b"), r"no file can be called 'a\\x00b'"),
    (lambda s: enter(s, b".."), r"no file can be called '\.\.'"),
    (lambda s: enter(s, b"outer"), "has a 'outer' already"),
    (lambda s: names.link(s.files, TOP, b"again", s.directory), "is a directory: it has one name only"),
    (lambda s: names.unlink(s.files, TOP, b"directory"), "is a directory: remove it as one"),
    (lambda s: names.unlink(s.files, TOP, b"outer"), "'outer' in directory 256 is a subvolume"),
    (lambda s: names.remove_directory(s.files, TOP, b"file"), "is not a directory"),
    (lambda s: names.remove_directory(s.files, TOP, b"directory"), "is not empty"),
    (lambda s: moves.rename(s.files, TOP, b"directory", s.directory, b"x"), "cannot be moved into itself"),
    (lambda s: moves.rename(s.files, TOP, b"directory", TOP, b"file"), "cannot make room for a directory"),
    (lambda s: moves.rename(s.files, TOP, b"file", TOP, b"directory"), "cannot make room for what is no directory"),
    (lambda s: moves.rename(s.files, TOP, b"file", TOP, b"a/b"), "no file can be called"),
    (lambda s: moves.rename(s.files, TOP, b"file", TOP, b"outer"), "is a subvolume"),
    (lambda s: inodes.create_symlink(s.files, b""), "a target has 1 to 4095 bytes"),
    (lambda s: inodes.create_symlink(s.files, b"x" * 4096), "a target has 1 to 4095 bytes"),
    (lambda s: inodes.file_type(0o644), "mode 0o644 says nothing of a type of file"),
    (lambda s: inodes.device_number(1 << 12, 0), "there is no device 4096:0"),
    (lambda s: xattrs.set_value(s.files, s.file, b"", b""), "no attribute can be called ''"),
    (lambda s: xattrs.set_value(s.files, s.file, b"n" * 256, b""), "no attribute can be called"),
    (lambda s: xattrs.set_value(s.files, s.file, b"user.x", bytes(16223)), "there is room for 16222"),
    (lambda s: xattrs.set_value(s.files, s.file, xattrs.COMPRESSION, b"gzip"), "no compression is called 'gzip'"),
    (lambda s: xattrs.set_value(s.files, s.unsummed, xattrs.COMPRESSION, b"zstd"), "it cannot be compressed"),
    (lambda s: contents.write(s.files, s.directory, 0, b"x", s.storage), "is no regular file"),
    (lambda s: contents.write(s.files, s.sealed, 0, b"x", s.storage), "is sealed by fs-verity"),
    (lambda s: contents.write(s.files, s.file, (1 << 63) - 1, b"x", s.storage), "do not fit a file"),
    (lambda s: contents.truncate(s.files, s.file, 1 << 63, s.storage), "do not fit a file"),
    (lambda s: clone(s, s.file, 1, 0, s.directory, 0), "is no regular file"),
    (lambda s: clone(s, s.file, 1, 4096, s.file, 8192), "are not both multiples of the sector size 4096"),
    (lambda s: clone(s, s.file, 0, 100, s.file, 16384), "end inside a sector of 4096, and not where the file does"),
    (lambda s: clone(s, s.file, 0, 1 << 20, s.file, 1 << 20), "reach beyond the end of the file at 10240"),
    (lambda s: clone(s, s.file, 8192, 0, s.file, 0), "with bytes of the target behind them"),
    (lambda s: clone(s, s.file, 0, 8192, s.file, 4096), "overlap, so they cannot share"),
    (lambda s: clone(s, s.file, 0, 0, s.unsummed, 0), "only one of the files has checksums"),
    (lambda s: subvolumes.create(s.files, TOP, b"file"), "has a 'file' already"),
    (lambda s: subvolumes.snapshot(s.outer, s.files, TOP, b"copy"), "has a 'copy' already"),
    (lambda s: subvolumes.delete(s.files, TOP, b"file"), "is no subvolume"),
    (lambda s: subvolumes.delete(s.files, TOP, b"outer"), "has subvolume 257 in it: delete that first"),
    (lambda s: subvolumes.rename(s.files, TOP, b"outer", s.inner, TOP, b"x"), "cannot be moved into itself"),
    (lambda s: subvolumes.rename(s.files, TOP, b"outer", s.outer, TOP, b"x"), "cannot be moved into itself"),
    (lambda s: subvolumes.rename(s.files, TOP, b"outer", s.files, TOP, b"copy"), "has a 'copy' already"),
    (
        lambda s: subvolumes.rename(s.copy, TOP, b"inner", s.files, TOP, b"x"),
        "stands for a subvolume that is elsewhere",
    ),
]
MISSING: list[tuple[Callable[[Scene], Any], str]] = [
    (lambda s: names.unlink(s.files, TOP, b"none"), "directory 256 of subvolume 5 has no 'none'"),
    (lambda s: names.link(s.files, TOP, b"x", 9999), "subvolume 5 has no inode 9999"),
    (lambda s: xattrs.remove(s.files, s.file, b"user.none"), "has no attribute 'user.none'"),
    (lambda s: subvolumes.set_default(s.txn, 999), "there is no subvolume 999"),
    (lambda s: subvolumes.delete(s.files, TOP, b"none"), "has no 'none'"),
]


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with scene(tmp_path) as made:
        before = state(made)
        for kind, cases in ((RefusedError, REFUSED), (NotFoundError, MISSING)):
            for change, sentence in cases:
                with pytest.raises(kind, match=sentence):
                    change(made)
                assert state(made) == before, sentence


def state(made: Scene) -> list[Any]:
    trees = (TreeId.ROOT_TREE, TreeId.FS_TREE, made.outer.id, made.inner.id, made.copy.id, TreeId.UUID_TREE)
    return [list(made.txn.tree(tree_id).items()) for tree_id in trees]


def test_the_default_subvolume_stays(tmp_path: Path) -> None:
    with scene(tmp_path) as made:
        assert subvolumes.default(made.txn) == TreeId.FS_TREE
        subvolumes.set_default(made.txn, made.copy.id)
        assert subvolumes.default(made.txn) == made.copy.id
        with pytest.raises(RefusedError, match="is mounted by default: make another the default one first"):
            subvolumes.delete(made.files, TOP, b"copy")


def test_names_end_where_items_do(tmp_path: Path) -> None:
    """Without EXTENDED_IREF the names of a file in one directory, with it those of one hash, fill an item."""
    with scene(tmp_path, features=["^extref"], nodesize=4096) as made:
        for number in range(15):
            names.link(made.files, TOP, b"%02d" % number + b"n" * 251, made.file)
        with pytest.raises(RefusedError, match="can have no further name in directory 256: there is no EXTENDED_IREF"):
            names.link(made.files, TOP, b"15" + b"n" * 251, made.file)
        inodes.change(made.files, made.file, nlink=names.LINK_MAX)
        with pytest.raises(RefusedError, match="has 65535 names: it can have no more"):
            names.link(made.files, made.directory, b"one more", made.file)
        value = bytes(1900)
        xattrs.set_value(made.files, made.file, COLLIDING[0], value)
        xattrs.set_value(made.files, made.file, COLLIDING[1], value)
        with pytest.raises(RefusedError, match="has no room for all attributes of one hash"):
            xattrs.set_value(made.files, made.file, COLLIDING[1], value + bytes(200))


def test_a_name_for_which_there_is_no_room_changes_nothing(tmp_path: Path) -> None:
    """Neither what was to have it, nor what has it now and would make room."""
    with scene(tmp_path, features=["^extref"], nodesize=4096) as made:
        for number in range(15):
            names.link(made.files, TOP, b"%02d" % number + b"n" * 251, made.file)
        names.link(made.files, made.directory, b"n" * 254, made.file)
        made.make(b"n" * 254)
        before = state(made)
        with pytest.raises(RefusedError, match="can have no further name in directory 256: there is no EXTENDED_IREF"):
            moves.rename(made.files, made.directory, b"n" * 254, TOP, b"n" * 254)
        assert state(made) == before
        crowd = b"".join(DirItem.STRUCT.pack(*inode_key(300), 1, 0, 202, 1) + b"%0202d" % n for n in range(17))
        made.files.tree.put(Key(TOP, ItemType.DIR_ITEM, name_hash(b"crowded")), crowd)
        before = state(made)
        changes: list[Callable[[], Any]] = [
            lambda: names.link(made.files, TOP, b"crowded", made.unsummed),
            lambda: moves.rename(made.files, TOP, b"unsummed", TOP, b"crowded"),
            lambda: subvolumes.create(made.files, TOP, b"crowded"),
            lambda: subvolumes.snapshot(made.outer, made.files, TOP, b"crowded"),
            lambda: subvolumes.rename(made.files, TOP, b"outer", made.files, TOP, b"crowded"),
        ]
        for change in changes:
            with pytest.raises(RefusedError, match="holds no further name with the hash of 'crowded'"):
                change()
            assert state(made) == before


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
def test_an_inode_that_cannot_be_is_told_of(tmp_path: Path, size: int) -> None:
    with scene(tmp_path) as made:
        tree, key = made.files.tree, inode_key(made.file)
        tree.put(key, InodeItem.patch(tree.get(key), size=size))
        changes: list[Callable[[], None]] = [
            lambda: contents.write(made.files, made.file, 0, b"x", made.storage),
            lambda: contents.punch(made.files, made.file, 0, 4096, made.storage),
            lambda: clone(made, made.file, 0, 4096, made.file, 8192),
        ]
        for change in changes:
            with pytest.raises(CorruptError, match=f"has a size of {size}"):
                change()
        tree.put(key, b"short")
        with pytest.raises(CorruptError, match="has 5 bytes"):
            names.unlink(made.files, TOP, b"file")


def test_a_directory_that_hangs_nowhere_takes_none(tmp_path: Path) -> None:
    with scene(tmp_path) as made:
        made.make(b"other", DIRECTORY)
        made.files.tree.delete(ref_key(made.directory, TOP))
        with pytest.raises(CorruptError, match="hangs nowhere"):
            moves.rename(made.files, TOP, b"other", made.directory, b"x")


def test_numbers_run_out(tmp_path: Path) -> None:
    with scene(tmp_path) as made:
        inodes.create(made.files, REGULAR, ino=TreeId.LAST_FREE)
        with pytest.raises(RefusedError, match="has used up all inode numbers"):
            inodes.create(made.files, REGULAR)
        made.files.begin_directory(TOP, (1 << 64) - 1)
        enter(made, b"last")
        with pytest.raises(RefusedError, match="has used up all indexes"):
            enter(made, b"none")
