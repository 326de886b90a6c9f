"""Single things that a cache that is written to does: sharing, budgets, refusals, threads, pages of freed extents."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.fresh import make_empty, no_warning, writable
from support.judges import complaints

from btrimg.errors import ChecksumError, NoSpaceError, NotFoundError, RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import InodeFlag
from btrimg.ondisk.csum import algorithm
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import SCHEMES
from btrimg.units import MIB
from btrimg.write import inodes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from btrimg.pagecache.writable import WritableCache

RIGHT = sorted(SCHEMES.keys() - {"device-posted"})


@contextmanager
def opened(directory: Path, *, size: int = 128 * MIB, pages: int = 4096, **how: Any) -> Iterator[WritableCache]:
    """Give a cache of an empty filesystem, and close it."""
    path = str(directory / "image")
    make_empty(path, size)
    settings = {"scheme": "extent", "policy": "lru", "after": "move"} | how
    with ExitStack() as stack:
        cache = stack.enter_context(writable(path, budget=pages * PAGE, **settings))
        yield stack.enter_context(cache)


@pytest.mark.parametrize(("after", "resident", "duplicates"), [("keep", 128, 64), ("drop", 64, 0), ("move", 64, 0)])
def test_after_a_writeback_a_reflink_hits_what_was_moved_and_reads_again_what_was_not(
    tmp_path: Path, after: str, resident: int, duplicates: int
) -> None:
    data = os.urandom(64 * PAGE)
    with opened(tmp_path, after=after) as cache:
        file = cache.create(b"/file")
        assert file.write(0, data) == len(data)
        assert (cache.dirty, cache.resident) == (64, 64)
        file.writeback()
        assert (cache.dirty, cache.resident) == (0, 0 if after == "drop" else 64)
        other = cache.create(b"/other")
        cache.reflink(file, other)
        assert other.read(0, MIB) == file.read(0, MIB) == data
        assert cache.resident == resident
        assert cache.duplicates() == duplicates
        written = cache.written
        assert (written.pages, written.kept, written.moved, written.dropped) == {
            "keep": (64, 64, 0, 0),
            "move": (64, 0, 64, 0),
            "drop": (64, 0, 0, 64),
        }[after]


def test_a_write_breaks_the_sharing_of_the_pages_it_changes_and_of_no_others(tmp_path: Path) -> None:
    data = bytearray(os.urandom(32 * PAGE))
    with opened(tmp_path) as cache:
        file = cache.create(b"/file")
        file.write(0, data)
        copies = [cache.create(b"/%d" % number) for number in range(4)]
        for copy in copies:
            cache.reflink(file, copy)
            assert copy.read(0, MIB) == data
        snapshot = cache.snapshot(b"/", b"/snapshot")
        inside = cache.open(b"/snapshot/file")
        assert inside.place.subvolume == snapshot
        assert inside.read(0, MIB) == data
        assert cache.resident == 32  # six files
        copies[0].write(10 * PAGE + 7, b"changed")
        assert cache.resident == 33
        assert file.read(10 * PAGE + 7, 7) == inside.read(10 * PAGE + 7, 7) == data[10 * PAGE + 7 :][:7]
        cache.writeback()
        changed = bytes(data[: 10 * PAGE + 7]) + b"changed" + bytes(data[10 * PAGE + 14 :])
        assert copies[0].read(0, MIB) == changed
        assert all(each.read(0, MIB) == data for each in (file, inside, *copies[1:]))
        assert cache.resident == 33


@pytest.mark.parametrize(
    ("scheme", "after"), [*((scheme, "move") for scheme in RIGHT), ("inode", "keep"), ("device", "keep")]
)
def test_pages_of_extents_that_are_freed_and_written_anew_are_not_given_to_others(
    tmp_path: Path, scheme: str, after: str
) -> None:
    """Space is given out first fit, so that two commits later the same sectors hold another file."""
    with opened(tmp_path, scheme=scheme, after=after) as cache:
        for number in range(4):
            file = cache.create(b"/%d" % number)
            data = bytes([number + 1]) * (16 * PAGE)
            file.write(0, data)
            file.writeback()
            again = cache.open(b"/%d" % number)
            assert again.read(0, MIB) == file.read(0, MIB) == data
            cache.unlink(b"/%d" % number)
            with pytest.raises(NotFoundError, match="gone"):
                file.read(0, 1)
        stale = cache.written.stale
        assert stale == (4 * 16 if scheme == "device" and after == "move" else 0)


def test_a_damaged_page_is_an_error_for_who_needs_it_and_goes_when_all_of_it_is_written(tmp_path: Path) -> None:
    data = os.urandom(8 * PAGE)
    with opened(tmp_path, after="drop") as cache:
        file = cache.create(b"/file")
        file.write(0, data)
        file.writeback()
        (extent,) = cache.image.open(b"/file").extents()
        place = cache.image.volume.chunk_map.locate((extent.logical or 0) + 3 * PAGE).copies[0]
        with (tmp_path / "image").open("r+b") as device:
            device.seek(place.physical + 77)
            device.write(b"damage")
        with pytest.raises(ChecksumError):
            file.read(0, MIB)
        with pytest.raises(ChecksumError):
            file.write(3 * PAGE + 5, b"in part")
        assert (cache.dirty, cache.resident) == (0, 0)
        assert file.read(0, 3 * PAGE) == data[: 3 * PAGE]
        assert file.read(4 * PAGE, MIB) == data[4 * PAGE :]
        assert file.write(2 * PAGE, bytes(PAGE) + b"whole" * PAGE) == 6 * PAGE
        cache.writeback()
        assert file.read(0, MIB) == data[: 2 * PAGE] + bytes(PAGE) + b"whole" * PAGE


def test_pages_with_the_same_checksum_are_compared_before_they_are_one(tmp_path: Path) -> None:
    page, other = os.urandom(PAGE), os.urandom(PAGE - 4)
    other += suffix(other, crc32c(page)).to_bytes(4, "little")
    assert crc32c(other) == crc32c(page)
    with opened(tmp_path, scheme="content", after="drop", max_inline=0) as cache:
        contents = {b"/a": page, b"/b": other, b"/same": page, b"/both": page + other}
        for name, content in contents.items():
            cache.create(name).write(0, content)
        cache.writeback()
        for _ in range(2):
            for name, content in contents.items():
                assert cache.open(name).read(0, MIB) == content
        assert cache.resident == 3  # who comes second has a page of its own
        assert (cache.store.misses, cache.store.hits) == (5, 5)


def crc32c(data: bytes) -> int:
    return int.from_bytes(algorithm(0).digest(data), "little")


def suffix(data: bytes, wanted: int) -> int:
    """Return the number whose 4 bytes behind *data* give a checksum: 32 equations, by elimination."""
    start = crc32c(data + bytes(4))
    rows = [(crc32c(data + (1 << bit).to_bytes(4, "little")) ^ start, 1 << bit) for bit in range(32)]
    found, left = 0, wanted ^ start
    for place in range(32):
        pivot = next(row for row in rows if row[0] >> place & 1)
        rows = [(a ^ pivot[0], b ^ pivot[1]) if a >> place & 1 else (a, b) for a, b in rows if (a, b) != pivot]
        if left >> place & 1:
            left, found = left ^ pivot[0], found ^ pivot[1]
    return found


def test_dirty_pages_take_at_most_half_of_the_budget_and_are_written_back_when_they_would_take_more(
    tmp_path: Path,
) -> None:
    data = os.urandom(3 * MIB + 5)
    with opened(tmp_path, pages=64) as cache:
        file = cache.create(b"/file")
        for at in range(0, len(data), 10_000):
            file.write(at, data[at : at + 10_000])
            assert cache.dirty <= 32
            assert cache.resident <= 64
        assert cache.written.forced > 20
        assert file.read(0, 4 * MIB) == data
    with open_image(str(tmp_path / "image"), warn=no_warning) as image:
        assert image.open(b"/file").read(0, 4 * MIB) == data  # closing the cache wrote the rest


@pytest.mark.progs
def test_what_cannot_be_written_back_stays_dirty_until_it_can(tmp_path: Path) -> None:
    noise = os.urandom(12 * MIB)
    with opened(tmp_path, size=40 * MIB, pages=20 * MIB // PAGE) as cache:
        file, other = cache.create(b"/file"), cache.create(b"/other")
        file.write(0, noise[: 8 * MIB])
        file.writeback()
        other.write(0, noise[:PAGE])
        other.writeback()
        filler = cache.create(b"/filler")

        def fill() -> None:
            for at in range(0, 64 * MIB, MIB):
                filler.write(at, noise[:MIB])

        with pytest.raises(NoSpaceError):
            fill()
        dirty = cache.dirty
        assert dirty
        with pytest.raises(NoSpaceError):
            cache.writeback()
        assert cache.dirty == dirty
        assert all(filler.read(at, MIB) == noise[:MIB] for at in range(0, filler.size - MIB, MIB))
        assert file.read(0, 8 * MIB) == noise[: 8 * MIB]
        filler.truncate(0)
        cache.writeback()
        assert cache.dirty == 0
        other.write(0, b"fits")
    with open_image(str(tmp_path / "image"), warn=no_warning) as image:
        assert image.open(b"/file").read(0, 9 * MIB) == noise[: 8 * MIB]
        assert image.open(b"/other").read(0, 4) == b"fits"
    assert complaints([str(tmp_path / "image")]) == []


def test_what_must_not_be_written_to_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with opened(tmp_path, scheme="device-posted") as cache:
        file = cache.create(b"/file")
        with pytest.raises(RefusedError, match="other files' bytes"):
            file.write(0, b"x")
    (tmp_path / "image").unlink()
    with opened(tmp_path) as cache:
        file = cache.create(b"/file")
        file.write(0, b"bytes")
        with pytest.raises(RefusedError, match="do not fit a file"):
            file.write(1 << 63, b"x")
        with pytest.raises(NotFoundError, match="'/file' is no subvolume"):
            cache.snapshot(b"/file", b"/snapshot")
        cache.writeback()
        with cache._committer.session([]) as session:
            inodes.change(session.files(5), file.place.inode, flags=int(InodeFlag.VERITY))
        sealed = cache.open(b"/file")
        with pytest.raises(RefusedError, match="sealed by fs-verity"):
            sealed.write(0, b"x")
        assert sealed.read(0, 9) == b"bytes"


def test_a_file_without_copy_on_write_is_written_to_new_extents_as_others_are(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        file = cache.create(b"/file")
        with cache._committer.session([]) as session:
            flags = int(InodeFlag.NODATACOW | InodeFlag.NODATASUM)
            inodes.change(session.files(5), file.place.inode, flags=flags)
        file = cache.open(b"/file")
        for number in range(3):
            file.write(0, bytes([number]) * 3 * PAGE)
            file.writeback()
            assert file.read(0, MIB) == bytes([number]) * 3 * PAGE


def test_readers_see_each_write_whole_while_others_write_and_commit(tmp_path: Path) -> None:
    size, rounds = 24 * PAGE, 40
    with opened(tmp_path, pages=40) as cache:
        file = cache.create(b"/file")
        file.write(0, bytes(size))
        quiet = cache.create(b"/quiet")
        cache.reflink(file, quiet)
        stop = threading.Event()

        def write() -> None:
            try:
                for number in range(1, rounds):
                    assert file.write(0, bytes([number]) * (8 * PAGE)) == 8 * PAGE
                    if number % 3 == 0:
                        cache.writeback(after=random.choice(("keep", "drop", "move")))
            finally:
                stop.set()

        def read() -> int:
            handle, seen = cache.open(b"/file"), 0
            while not stop.is_set() or not seen:
                found = handle.read(0, 8 * PAGE)
                assert len(set(found)) == 1
                assert found[0] >= seen
                seen = found[0]
                assert quiet.read(0, size) == bytes(size)
            return seen

        with ThreadPoolExecutor(4) as pool:
            writing = pool.submit(write)
            for reading in [pool.submit(read) for _ in range(3)]:
                reading.result()
            writing.result()
        assert file.read(0, size) == bytes([rounds - 1]) * (8 * PAGE) + bytes(16 * PAGE)


def test_who_closes_waits_for_who_reads_and_writes_and_nothing_comes_after(tmp_path: Path) -> None:
    with opened(tmp_path, pages=40) as cache:
        file = cache.create(b"/file")
        file.write(0, bytes(60 * PAGE))
        written = [b"\0" * PAGE] * 60

        def read() -> str:
            draw = random.Random(1)
            while True:
                try:
                    got = file.read(draw.randrange(60) * PAGE, PAGE)
                except ValueError as error:
                    return str(error)
                if got != got[:1] * PAGE:
                    return "half of a write"

        def write() -> str:
            draw = random.Random(2)
            while True:
                page, data = draw.randrange(60), draw.randbytes(1) * PAGE
                try:
                    file.write(page * PAGE, data)
                except ValueError as error:
                    return str(error)
                written[page] = data

        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(each) for each in (read, read, write)]
            while cache.written.commits < 5 and not any(job.done() for job in jobs):
                pass
            cache.close()
            said = {job.result() for job in jobs}
        assert said == {"the page cache is closed: nothing can be read through it any more"}
        for late in (lambda: file.size, lambda: file.truncate(0), lambda: cache.create(b"/late")):
            with pytest.raises(ValueError, match="the page cache is closed"):
                late()
        cache.close()
    with open_image(str(tmp_path / "image")) as image:
        assert image.open(b"/file").read(0, 60 * PAGE) == b"".join(written)
        assert complaints([str(tmp_path / "image")]) == []
