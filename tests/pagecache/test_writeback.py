"""Commits one after the other on an image that stays open, and commits that fail."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from support.fresh import make_empty, writing
from support.judges import complaints

from btrimg.errors import DeviceError, NoSpaceError, RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import Compression
from btrimg.pagecache.dirty import Changes
from btrimg.pagecache.pages import PAGE
from btrimg.units import MIB
from btrimg.write import inodes, names, subvolumes

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.pagecache.writeback import Committer

FILE = stat.S_IFREG | 0o644
TOP = subvolumes.TOP_DIRECTORY


class Frames:
    """As many frames as are asked for, one after the other or far apart."""

    def __init__(self, *, scattered: bool) -> None:
        self.memory = memoryview(bytearray(32 * MIB))
        self._step, self._next = 2 if scattered else 1, 0

    def take(self, pages: int) -> list[range]:
        first, self._next = self._next, self._next + pages * self._step
        if self._step == 1:
            return [range(first, first + pages)]
        return [range(frame, frame + 1) for frame in range(first, self._next, self._step)]

    def give(self, frames: range) -> None:
        raise AssertionError(frames)


def new_file(committer: Committer, name: bytes) -> int:
    with committer.session([]) as session:
        files = session.files(5)
        ino = inodes.create(files, FILE)
        names.enter(files, TOP, name, ino, inodes.file_type(FILE))
    return ino


def commit(committer: Committer, ino: int, changes: Changes) -> list[tuple[int, int]]:
    freed: list[tuple[int, int]] = []
    with committer.session(freed) as session:
        session.apply(5, ino, changes)
    changes.settle()
    return freed


@pytest.mark.progs
@pytest.mark.parametrize("sectorsize", [4096, 16384])
@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_an_image_that_stays_open_shows_what_each_commit_wrote(
    tmp_path: Path, sectorsize: int, compression: Compression
) -> None:
    path = str(tmp_path / "image")
    make_empty(path, 128 * MIB, sectorsize=sectorsize)
    frames = Frames(scattered=True)
    with writing(path, compression=compression) as committer:
        image = committer.image
        ino = new_file(committer, b"file")
        changes, model = Changes(frames.memory, 0), bytearray()
        generations, freed = [], 0
        for number in range(12):
            data = memoryview(bytes([number + 1]) * (30_000 + 777 * number))
            at = number * 7919 % 40_000
            changes.write(at, data, frames, lambda room, offset: read(image, room, offset))
            model.extend(bytes(max(at + len(data) - len(model), 0)))
            model[at : at + len(data)] = data
            if number % 4 == 3:
                changes.truncate(20_001)
                changes.truncate(70_000)
                model = model[:20_001].ljust(70_000, b"\0")
            if number % 3 == 2:
                changes.punch(1, 3)
                model[PAGE : 3 * PAGE] = bytes(2 * PAGE)
            freed += len(commit(committer, ino, changes))
            generations.append(image.superblock.generation)
            assert image.open(b"/file").read(0, 1 << 20) == model
        assert generations == list(range(generations[0], generations[0] + 12))
        assert freed > 4
    with open_image(path) as image:
        assert image.open(b"/file").read(0, 1 << 20) == model
    assert complaints([path]) == []


def read(image: object, room: memoryview, offset: int) -> None:
    data = image.open(b"/file").read(offset, len(room))  # type: ignore[attr-defined]
    room[:] = data.ljust(len(room), b"\0")


def test_pages_that_are_apart_in_memory_become_one_extent(tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    make_empty(path, 128 * MIB)
    frames = Frames(scattered=True)
    with writing(path) as committer:
        ino = new_file(committer, b"file")
        changes = Changes(frames.memory, 0)
        data = os.urandom(200 * PAGE + 5)
        changes.write(PAGE, memoryview(data), frames, no_fill)
        commit(committer, ino, changes)
        file = committer.image.open(b"/file")
        assert [(row.offset, row.length) for row in file.extents()] == [(PAGE, 201 * PAGE)]
        assert file.read(0, MIB) == bytes(PAGE) + data


def no_fill(room: memoryview, offset: int) -> None:
    raise AssertionError(offset)


@pytest.mark.progs
def test_a_commit_for_which_there_is_no_room_changes_nothing_and_the_next_one_can(tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    make_empty(path, 40 * MIB)
    frames = Frames(scattered=False)
    with writing(path) as committer:
        ino = new_file(committer, b"file")
        changes = Changes(frames.memory, 0)
        changes.write(0, memoryview(b"kept" * PAGE), frames, no_fill)
        commit(committer, ino, changes)
        before = committer.image.superblock
        more = Changes(frames.memory, 4 * PAGE)
        more.write(4 * PAGE, memoryview(os.urandom(25 * MIB)), frames, no_fill)
        for _ in range(2):
            with pytest.raises(NoSpaceError, match="full"):
                commit(committer, ino, more)
            assert committer.image.superblock == before
            assert committer.image.open(b"/file").read(0, MIB) == b"kept" * PAGE
        assert more.dirty == 25 * MIB // PAGE  # nothing is lost
        more.truncate(5 * PAGE)
        commit(committer, ino, more)
        assert committer.image.open(b"/file").item.size == 5 * PAGE
    assert complaints([path]) == []


def test_after_a_commit_of_which_nobody_knows_how_far_it_came_none_is_made(tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    make_empty(path, 64 * MIB)
    with writing(path) as committer:
        ino = new_file(committer, b"file")
        sync = committer._sink.sync

        def broken() -> None:
            raise DeviceError("cannot write image: it is gone")

        committer._sink.sync = broken  # type: ignore[method-assign]
        with pytest.raises(DeviceError, match="it is gone"), committer.session([]) as session:
            inodes.change(session.files(5), ino, uid=7)
        committer._sink.sync = sync  # type: ignore[method-assign]
        with pytest.raises(DeviceError, match="nothing more can be written: cannot write image: it is gone"):
            new_file(committer, b"other")


def test_a_read_only_subvolume_stays_as_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    make_empty(path, 64 * MIB)
    with writing(path) as committer:
        new_file(committer, b"file")
        with committer.session([]) as session:
            files = session.files(5)
            snapshot = subvolumes.snapshot(files, files, TOP, b"snapshot", read_only=True)
        with pytest.raises(RefusedError, match="subvolume 256 is read-only"), committer.session([]) as session:
            session.files(snapshot.id)
