"""Which times of which inodes a change moves; as measured of Linux 6.18, by changing each file once."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import pytest

from btrimg.errors import NotFoundError
from btrimg.ondisk.constants import TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.fresh import fresh_devices
from btrimg.write import contents, inodes, moves, names, reflink, subvolumes, xattrs
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import new_options
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOP = subvolumes.TOP_DIRECTORY
BEFORE, AFTER = Timespec(1, 1), Timespec(2, 2)
SIZE = 20_000


class World:
    """A directory with a file, an empty one, one with a hard link, and a subvolume; made BEFORE, changed AFTER."""

    def __init__(self, txn: Any) -> None:
        self.files = Files(txn, TreeId.FS_TREE)
        self.storage = Storage(DataSink(txn))
        self.home, self.other = self._make(TOP, b"home", stat.S_IFDIR), self._make(TOP, b"other", stat.S_IFDIR)
        self.file, self.empty = self._make(self.home, b"file"), self._make(self.home, b"empty")
        self.folder = self._make(self.home, b"folder", stat.S_IFDIR)
        contents.write(self.files, self.file, 0, b"x" * SIZE, self.storage)
        names.link(self.files, self.home, b"link", self.empty)
        self.sub = subvolumes.create(self.files, self.home, b"sub")

    def _make(self, directory: int, name: bytes, kind: int = stat.S_IFREG) -> int:
        ino = inodes.create(self.files, kind | 0o755)
        names.enter(self.files, directory, name, ino, inodes.file_type(kind))
        return ino

    def moved(self) -> set[str]:
        """Return the times that are AFTER, as "inode: times"."""
        found = set()
        for name in ("home", "other", "file", "empty", "folder"):
            try:
                item = inodes.read(self.files, getattr(self, name))
            except NotFoundError:
                continue
            moved = [each for each in ("atime", "mtime", "ctime", "otime") if getattr(item, each) == AFTER]
            if moved:
                found.add(f"{name}: {' '.join(moved)}")
        return found


CONTENTS, NAMES = {"file: mtime ctime"}, "mtime ctime"
CHANGES: dict[str, tuple[Callable[[World], Any], set[str]]] = {
    "write": (lambda w: contents.write(w.files, w.file, 5, b"y", w.storage), CONTENTS),
    "write nothing": (lambda w: contents.write(w.files, w.file, 5, b"", w.storage), set()),
    "shrink": (lambda w: contents.truncate(w.files, w.file, 5, w.storage), CONTENTS),
    "grow": (lambda w: contents.truncate(w.files, w.file, SIZE + 1, w.storage), CONTENTS),
    "same size": (lambda w: contents.truncate(w.files, w.file, SIZE, w.storage), set()),
    "punch": (lambda w: contents.punch(w.files, w.file, 0, 4096, w.storage), CONTENTS),
    "punch a hole": (lambda w: contents.punch(w.files, w.empty, 0, 4096, w.storage), set()),
    "preallocate": (lambda w: contents.preallocate(w.files, w.file, 0, 1, w.storage, keep_size=True), CONTENTS),
    "clone": (
        lambda w: reflink.clone_range(w.files, w.file, 0, 0, w.files, w.empty, 0, w.storage),
        {"empty: mtime ctime"},
    ),
    "set xattr": (lambda w: xattrs.set_value(w.files, w.file, b"user.a", b""), {"file: ctime"}),
    "link": (lambda w: names.link(w.files, w.other, b"new", w.file), {"file: ctime", f"other: {NAMES}"}),
    "unlink": (lambda w: names.unlink(w.files, w.home, b"link"), {"empty: ctime", f"home: {NAMES}"}),
    "unlink the last": (lambda w: names.unlink(w.files, w.home, b"file"), {f"home: {NAMES}"}),
    "rmdir": (lambda w: names.remove_directory(w.files, w.home, b"folder"), {f"home: {NAMES}"}),
    "rename": (lambda w: moves.rename(w.files, w.home, b"file", w.home, b"x"), {"file: ctime", f"home: {NAMES}"}),
    "move": (
        lambda w: moves.rename(w.files, w.home, b"folder", w.other, b"x"),
        {"folder: ctime", f"home: {NAMES}", f"other: {NAMES}"},
    ),
    "rename over": (
        lambda w: moves.rename(w.files, w.home, b"file", w.home, b"link"),
        {"file: ctime", "empty: ctime", f"home: {NAMES}"},
    ),
    "make subvolume": (lambda w: subvolumes.create(w.files, w.other, b"x"), {f"other: {NAMES}"}),
    "snapshot": (lambda w: subvolumes.snapshot(w.sub, w.files, w.other, b"x"), {f"other: {NAMES}"}),
    "delete subvolume": (lambda w: subvolumes.delete(w.files, w.home, b"sub"), {f"home: {NAMES}"}),
    "move subvolume": (
        lambda w: subvolumes.rename(w.files, w.home, b"sub", w.files, w.other, b"x"),
        {f"home: {NAMES}", f"other: {NAMES}"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_moves_the_times_that_the_kernel_moves(name: str, tmp_path: Path) -> None:
    uuids = seeded(b"times")
    options = new_options([256 << 20], uuids)
    change, expected = CHANGES[name]
    with fresh_devices([str(tmp_path / "image")], [256 << 20]) as fresh:
        made = make_filesystem(options, fresh.devices, fresh.sink, now=BEFORE, uuids=uuids, warn=pytest.fail)
        with made as txn:
            world = World(txn)
            txn.now = AFTER
            change(world)
            world.storage.sink.close()
            assert world.moved() == expected
