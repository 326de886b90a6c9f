"""Reading everything through the cache: the same bytes as file by file, each page once, at any budget."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import kernel, mounted
from support.forks import forks
from support.images import copy_sparse
from support.matrix import name_of, options_of, variants
from support.program import btrimg, built

from btrimg import forked
from btrimg.errors import ChecksumError, DeviceError
from btrimg.filesystem.image import open_image
from btrimg.filesystem.inode import Inode
from btrimg.pagecache import filerows, filling, supply
from btrimg.pagecache.arena import Arena
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.fill import Filler
from btrimg.pagecache.pages import PAGE, Place
from btrimg.pagecache.schemes import SCHEMES
from btrimg.pagecache.supply import Supply
from btrimg.pagecache.sweep import Sweep
from btrimg.pagecache.sweepplan import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import KernelImage

    from btrimg.errors import BtrimgError
    from btrimg.filesystem.image import Image

RIGHT = sorted(SCHEMES.keys() - {"device-posted"})
PICKED = (("raid10", "crc32c"), ("raid5", "blake2"), ("raid1c3", "xxhash"))
CELLS = [next(cell for cell in variants() if cell[0] == profile and cell[2] == csum) for profile, csum in PICKED]
RECIPE = """
do = [
    {file = "/big", random = "1500K"},
    {reflink = "/copy", from = "/big"},
    {reflink = "/middle", from = "/big", from-offset = "512K", length = "704K"},
    {file = "/packed", pattern = "the very same 32 bytes as always", size = "768K", compress = "zstd"},
    {reflink = "/part", from = "/packed", from-offset = "128K", length = "256K", offset = "64K"},
    {reflink = "/part", from = "/big", from-offset = "512K", length = "64K", offset = "128K"},
    {file = "/zlib", pattern = "another one", size = "300K", compress = "zlib"},
    {file = "/lzo", pattern = "and one more", size = 130000, compress = "lzo"},
    {file = "/tail", random = 100123},
    {reflink = "/longer", from = "/tail"},
    {truncate = "/longer", size = 110000},
    {file = "/small", text = "a few bytes"},
    {file = "/small-packed", pattern = "x", size = 2000, compress = "zlib"},
    {file = "/empty", text = ""},
    {file = "/sparse", text = ""},
    {truncate = "/sparse", size = "1T"},
    {file = "/unchecked", random = "100K", nodatasum = true},
    {snapshot = "/again", of = "/"},
]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("sweep"), RECIPE)


@pytest.fixture(scope="module")
def image(path: str) -> Iterator[Image]:
    with open_image(path) as image:
        yield image


def true_bytes(image: Image, place: Place, size: int, offset: int = 0) -> bytes:
    return Inode(image, image.subvolume(place.subvolume), place.inode).read(offset, size)


Swept = dict[Place, tuple[bytearray, dict[int, "BtrimgError"]]]


def swept(cache: PageCache) -> Swept:
    """Return the bytes of every file, put together of pieces, but for huge ones; and errors by offset."""
    files: Swept = {}
    last = None
    for place, size, offset, data, error in cache.read_all():
        assert place not in files or place == last, "the pieces of a file come together"
        last = place
        room, errors = files.setdefault(place, (bytearray(min(size, 1 << 24)), {}))
        if offset < len(room):
            room[offset : offset + len(data)] = data
        else:
            assert data == true_bytes(cache.image, place, len(data), offset), "far away in a sparse file"
        assert offset + len(data) <= size
        if error:
            errors[offset] = error
            assert not data
    return files


def expect_all(cache: PageCache) -> None:
    """Expect every byte of every file, and no error."""
    found = swept(cache)
    assert found.keys() == {file.place for file in cache.open_all()}
    for place, (data, errors) in found.items():
        assert data == true_bytes(cache.image, place, len(data)), place
        assert not errors


@pytest.mark.parametrize("scheme", RIGHT)
def test_every_byte_of_every_file(image: Image, scheme: str) -> None:
    for pages in (*([1] if scheme == "extent" else []), 70, 333, 4096):
        with PageCache(image, budget=pages * PAGE, scheme=scheme) as cache:
            expect_all(cache)
            assert cache.store.resident <= pages


def test_each_page_comes_in_once(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Filler._device_into

    def counted(self: Filler, devid: int, room: memoryview, physical: int) -> None:
        read.extend(range(physical, physical + len(room), PAGE))
        plain(self, devid, room, physical)

    monkeypatch.setattr(Filler, "_device_into", counted)
    with PageCache(image, budget=4096 * PAGE) as cache:
        first = swept(cache)
        found = cache.statistics()
        assert len(read) == len(set(read)) > 375  # of /big
        assert found.duplicates == 0
        again = swept(cache)
        assert first == again
        after = cache.statistics()
        assert (after.misses, after.resident) == (found.misses, found.resident)
        assert len(read) == len(set(read))
        # And what is here is what handles find.
        for file in cache.open_all():
            if file.size < 1 << 24:
                assert file.read(0, file.size) == first[file.place][0]
        assert cache.store.misses - after.misses <= 6  # inline data are kept by handles only
    with PageCache(image, budget=4096 * PAGE) as cache:
        for file in cache.open_all():
            file.read(0, min(file.size, 1 << 22))
        assert cache.statistics().shared_hits == found.shared_hits > 2000


def test_threads_sweep_side_by_side_and_with_others(image: Image) -> None:
    for pages in (300, 4096):
        with PageCache(image, budget=pages * PAGE, policy="s3-fifo") as cache:
            files = [file for file in cache.open_all() if file.size < 1 << 24]
            known = {file.place: true_bytes(image, file.place, file.size) for file in files}

            def sweep(_: int, cache: PageCache = cache, known: dict[Place, bytes] = known) -> bool:
                return all(known.get(place, data) == data for place, (data, _) in swept(cache).items())

            def read(seed: int, files: Any = files, known: dict[Place, bytes] = known) -> bool:
                draw = random.Random(seed)
                for _ in range(60):
                    file = draw.choice(files)
                    at = draw.randrange(file.size + 1)
                    if file.read(at, 50_000) != known[file.place][at : at + 50_000]:
                        return False
                return True

            with ThreadPoolExecutor(6) as pool:
                assert all([*pool.map(sweep, range(3)), *pool.map(read, range(3))])
            assert cache.store.resident <= pages


def place_of(image: Image, name: bytes, page: int, copy: int = 0) -> int:
    """Return where on its device a page of a file is, or a page of the extent that the page is packed in."""
    row = next(row for row in image.open(name).extents() if row.offset <= page * PAGE < row.end)
    assert row.logical is not None
    inside = page * PAGE - row.offset if row.kind == "regular" else 0
    return image.volume.chunk_map.locate(row.logical + inside).copies[copy].physical


def damage(path: str, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"\xde\xad" * 8)


def test_what_is_bad_is_told_and_not_kept(path: str, tmp_path: Any) -> None:
    (broken,) = copy_sparse([path], str(tmp_path / "broken"))
    with open_image(broken, warn=lambda _: None) as image:
        known = {file.place: true_bytes(image, file.place, min(file.size, 1 << 22)) for file in all_files(image)}
        for name, page in ((b"/big", 100), (b"/tail", 0), (b"/zlib", 40)):
            damage(broken, place_of(image, name, page))
        packed = dict.fromkeys(range(128 << 10, 256 << 10, PAGE), ChecksumError)
        expected = {
            **{name: {100 * PAGE: ChecksumError} for name in (b"/big", b"/copy", b"/again/big", b"/again/copy")},
            **{name: {0: ChecksumError} for name in (b"/tail", b"/longer", b"/again/tail", b"/again/longer")},
            b"/zlib": packed,
            b"/again/zlib": packed,
        }
        bad = {image.open(name).ino: errors for name, errors in expected.items()}
        for pages in (333, 4096):
            with PageCache(image, budget=pages * PAGE) as cache:
                for place, (data, errors) in swept(cache).items():
                    assert {at: type(error) for at, error in errors.items()} == bad.get(place.inode, {}), place
                    for at in range(0, len(known[place]), PAGE):
                        if at not in errors:
                            assert data[at : at + PAGE] == known[place][at : at + PAGE]
                held = [bytes(cache.store.memory[at * PAGE : at * PAGE + PAGE]) for at in cache.store.frames_in_use()]
                sound = {data[at : at + PAGE].ljust(PAGE, b"\0") for data in known.values() for at in pages_of(data)}
                assert not [page for page in held if page not in sound]


def all_files(image: Image) -> list[Any]:
    with PageCache(image, budget=PAGE) as cache:
        return list(cache.open_all())


def pages_of(data: bytes) -> range:
    return range(0, len(data), PAGE)


def test_another_copy_is_used(tmp_path: Any) -> None:
    broken = built(tmp_path, RECIPE, "--data", "dup")
    heard: list[str] = []
    with open_image(broken, warn=heard.append) as image:
        known = {file.place: true_bytes(image, file.place, min(file.size, 1 << 22)) for file in all_files(image)}
        damage(broken, place_of(image, b"/big", 7))
        damage(broken, place_of(image, b"/zlib", 7))
        damage(broken, place_of(image, b"/lzo", 7, 1))
        with PageCache(image, budget=4096 * PAGE) as cache:
            for place, (data, errors) in swept(cache).items():
                assert not errors
                assert data.startswith(known[place])
    assert len(heard) == 2


def test_an_error_in_the_middle_of_a_run(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails at one sector, as disks do: whatever read has that sector in it."""
    heard: list[str] = []
    with open_image(path, warn=heard.append) as image:
        fail_in_the_middle(image, monkeypatch)
    assert all(message.endswith("Input/output error") for message in heard)
    assert heard


def fail_in_the_middle(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place_of(image, b"/big", 100)
    plain = os.preadv
    failing = True

    def preadv(fd: int, buffers: Any, offset: int) -> int:
        length = sum(map(len, buffers))
        if failing and offset <= at < offset + length:
            if offset < at:
                return plain(fd, [buffers[0][: at - offset]], offset)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(fd, buffers, offset)

    plain_pread = os.pread

    def pread(fd: int, length: int, offset: int) -> bytes:
        if failing and offset <= at < offset + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain_pread(fd, length, offset)

    big = image.open(b"/big")
    known = big.read(0, big.item.size)
    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pread", pread)
    with PageCache(image, budget=4096 * PAGE) as cache:
        sweeps = {place.inode: each for place, each in swept(cache).items() if place.subvolume == 5}
        data, errors = sweeps[big.ino]
        assert {offset: str(error) for offset, error in errors.items()} == {
            100 * PAGE: f"no copy of the 4096 bytes at logical {logical_of(big, 100)} can be read"
        }
        assert data[: 100 * PAGE] == known[: 100 * PAGE]
        assert data[101 * PAGE :] == known[101 * PAGE :]
        file = cache.open(image.open(b"/copy"))
        assert file.read(0, 100 * PAGE) == known[: 100 * PAGE]
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"no copy of the .* bytes at logical .* can be read"):
                file.read(99 * PAGE, 2 * PAGE)
        assert file.read(101 * PAGE, 1 << 21) == known[101 * PAGE :]
        failing = False
        assert file.read(0, 1 << 21) == known
        assert not next(iter(swept(cache).values()))[1]


def logical_of(inode: Inode, page: int) -> int:
    row = next(iter(inode.extents()))
    assert row.logical is not None
    return row.logical + page * PAGE


def test_accounts_go_file_by_file(image: Image) -> None:
    with PageCache(image, budget=4096 * PAGE, account=True) as cache:
        expect_all(cache)


@pytest.mark.parametrize("size", [16384, 65536])
def test_sectors_of_many_pages_come_in_together(size: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = built(tmp_path, RECIPE, "--sectorsize", str(size))
    with open_image(path) as image:
        known = true_bytes(image, Place(5, image.open(b"/big").ino), 1 << 21)
        with PageCache(image, budget=333 * PAGE) as cache:
            expect_all(cache)
        monkeypatch.setattr(Sweep, "_alone", None)  # nothing is read by itself
        with PageCache(image, budget=4096 * PAGE) as cache:
            expect_all(cache)
        for file in (b"/big", b"/zlib"):
            damage(path, place_of(image, file, 18))
    monkeypatch.undo()
    with open_image(path, warn=lambda _: None) as image, PageCache(image, budget=4096 * PAGE) as cache:
        found = {place.inode: each for place, each in swept(cache).items()}
        data, errors = found[image.open(b"/copy").ino]
        sector = range(18 * PAGE // size * size, (18 * PAGE // size + 1) * size, PAGE)
        assert {at: type(error) for at, error in errors.items()} == dict.fromkeys(sector, ChecksumError)
        assert data[: sector[0]] == known[: sector[0]]
        assert data[sector.stop :] == known[sector.stop :]
        assert found[image.open(b"/zlib").ino][1]


@pytest.mark.kernel
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_the_kernel_reads_the_same(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    made = kernel_image(**options_of(cell))
    with (
        kernel.alone(made.devices),
        open_image(made.devices) as image,
        kernel.mount(made.devices, read_only=True) as mount,
        PageCache(image, budget=2048 * PAGE) as cache,
    ):
        found = swept(cache)
        count = 0
        for directory, _, names in os.walk(os.fsencode(mount)):
            for name in names:
                where = os.path.join(directory, name)
                if not os.path.isfile(where) or os.path.islink(where):
                    continue
                inode = image.open(b"/" + os.path.relpath(where, os.fsencode(mount)))
                data, errors = found[Place(inode.subvolume.id, inode.ino)]
                with open(where, "rb") as file:
                    assert data == file.read(len(data)), where
                assert not errors
                count += 1
        assert count > 10


def test_a_disk_that_really_fails(path: str, tmp_path: Any) -> None:
    """An image in an image that is mounted: where the outer one is damaged, the kernel says EIO."""
    mounted.require_fuse()
    (tmp_path / "disks").mkdir()
    (copied,) = copy_sparse([path], str(tmp_path / "disks" / "inner"))
    inner = os.path.relpath(copied, tmp_path / "disks")
    outer = str(tmp_path / "outer.img")
    done = btrimg("build", "--from-dir", tmp_path / "disks", "-o", outer)
    assert done.returncode == 0, done.stderr
    with open_image(path) as image:
        known = image.open(b"/big").read(0, 1 << 21)
        at = place_of(image, b"/big", 100)
    with open_image(outer) as image:
        damage(outer, place_of(image, b"/" + os.fsencode(inner), at // PAGE))
    heard: list[str] = []
    with (
        mounted.mounted([outer]) as where,
        open_image(os.path.join(where, inner), warn=heard.append) as image,
        PageCache(image, budget=4096 * PAGE) as cache,
    ):
        number = image.open(b"/big").ino
        data, errors = next(each for place, each in swept(cache).items() if place.inode == number)
        assert list(errors) == [100 * PAGE]
        assert type(errors[100 * PAGE]) is DeviceError
        assert data[: 100 * PAGE] == known[: 100 * PAGE]
        assert data[101 * PAGE :] == known[101 * PAGE :]
        file = cache.open(image.open(b"/copy"))
        with pytest.raises(DeviceError, match=r"no copy of the .* bytes at logical .* can be read"):
            file.read(0, 1 << 21)
        assert file.read(0, 100 * PAGE) == known[: 100 * PAGE]
        assert file.read(101 * PAGE, 1 << 21) == known[101 * PAGE :]
    assert any("Input/output error" in message for message in heard)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let sweeps have two processes beside this one; return the list of those that will have been forked."""
    monkeypatch.setattr(filling, "_processes", lambda _pages: 2)
    return forks(monkeypatch)


def here_only(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that fails in the process of the test."""
    ours = os.getpid()

    def checked(*args: Any, **named: Any) -> Any:
        assert os.getpid() != ours, "done here"
        return plain(*args, **named)

    return checked


@pytest.mark.parametrize("scheme", ["extent", "same-offset"])
def test_processes_beside_bring_in_the_same(
    image: Image, scheme: str, processes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that comes in together is read there, and nothing is left when it is over."""
    monkeypatch.setattr(Filler, "sectors_into", here_only(Filler.sectors_into))
    monkeypatch.setattr(Filler, "unpacked", here_only(Filler.unpacked))
    for pages, direct in ((1000, False), (4096, True)):
        with PageCache(image, budget=pages * PAGE, scheme=scheme, direct=direct) as cache:
            expect_all(cache)
            assert scheme != "extent" or cache.statistics().duplicates == 0
    assert len(processes) == 4
    assert not [pid for pid in processes if os.path.exists(f"/proc/{pid}")]


def test_processes_that_are_killed_are_done_without(
    image: Image, processes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a write, whose frames are then filled again."""
    ours, plain = os.getpid(), Arena.write

    def write(self: Arena, frame: int, pieces: Any) -> None:
        if os.getpid() != ours:
            plain(self, frame, [b"\xff" * PAGE])
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self, frame, pieces)

    monkeypatch.setattr(Arena, "write", write)
    with PageCache(image, budget=4096 * PAGE) as cache:
        expect_all(cache)
    assert len(processes) == 2


def test_without_room_for_another_process_all_is_done_here(
    image: Image, processes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = os.fork

    def once() -> int:
        if processes:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", once)
    with PageCache(image, budget=4096 * PAGE) as cache:
        expect_all(cache)
    assert len(processes) == 1


def test_who_looks_at_a_few_files_only_leaves_no_process(image: Image, processes: list[int]) -> None:
    with PageCache(image, budget=4096 * PAGE) as cache:
        pieces = cache.read_all()
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    assert len(processes) == 2
    assert not [pid for pid in processes if os.path.exists(f"/proc/{pid}")]


@pytest.mark.usefixtures("processes")
def test_what_is_bad_is_told_once_by_this_process(path: str, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    def warn(message: str) -> None:
        print(message)
        heard.append(message)

    broken = built(tmp_path, RECIPE, "--data", "dup")
    heard: list[str] = []
    with open_image(broken, warn=warn) as image:
        known = {file.place: true_bytes(image, file.place, min(file.size, 1 << 22)) for file in all_files(image)}
        for name, copies in ((b"/big", (0,)), (b"/zlib", (0,)), (b"/tail", (0, 1))):
            for copy in copies:
                damage(broken, place_of(image, name, 7, copy))
        tails = {image.open(name).ino for name in (b"/tail", b"/longer")}
        with PageCache(image, budget=4096 * PAGE) as cache:
            for place, (data, errors) in swept(cache).items():
                assert {at: type(error) for at, error in errors.items()} == (
                    {7 * PAGE: ChecksumError} if place.inode in tails else {}
                )
                for at in pages_of(known[place]):
                    assert at in errors or data[at : at + PAGE] == known[place][at : at + PAGE]
    assert capfd.readouterr().out.splitlines() == heard
    assert len(heard) == len(set(heard)) >= 2


def test_processes_are_for_much_only_and_for_who_has_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "cores", lambda: 8)
    monkeypatch.setattr(forked, "active_count", lambda: 1)
    assert filling._processes(1 << 14) == 4
    assert filling._processes((1 << 14) - 1) == 0
    monkeypatch.setattr(filling, "cores", lambda: 1)
    assert filling._processes(1 << 20) == 0
    monkeypatch.setattr(filling, "cores", lambda: 8)
    monkeypatch.setattr(forked, "active_count", lambda: 2)
    assert filling._processes(1 << 20) == 0


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 40)), max_size=8), st.integers(1, 30))
def test_ranges_are_cut_to_groups(ranges: list[tuple[int, int]], most: int) -> None:
    groups = list(filling._cut(ranges, most))
    units = [[start + at for start, length in group for at in range(length)] for group in groups]
    assert [unit for group in units for unit in group] == [s + at for s, length in ranges for at in range(length)]
    assert all(len(group) == most for group in units[:-1])
    assert all(0 < len(group) <= most for group in units)


_RUNS = st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 40), st.integers(1, 9))


@given(st.lists(_RUNS, max_size=12), st.sampled_from((0, 1 << 51, 1 << 61)), st.sampled_from((1, 1 << 40)))
def test_runs_that_have_pages_in_common_are_neighbours(
    runs: list[tuple[int, int, int, int]], far: int, of: int
) -> None:
    runs = sorted((space, unit * of, far + number, pages) for space, unit, number, pages in runs)
    columns = np.array(runs, np.int64).reshape(-1, 4).T
    found = supply._neighbours(Wanted(*columns, *[np.zeros(len(runs), np.int64)] * 6)).tolist()
    pages = [{(*run[:2], run[2] + at) for at in range(run[3])} for run in runs]
    alike = [(some, other) for some in range(len(runs)) for other in range(some) if pages[some] & pages[other]]
    assert all(found[some] == found[other] for some, other in alike)
    joined = sum(any(pages[at] & page for page in pages[:at]) for at in range(len(runs)))
    assert len(set(found)) == len(runs) - joined or far == 1 << 61  # so far away, not every page is told apart


def test_what_is_needed_next_is_asked_for_while_the_last_of_what_is_needed_comes_in(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    ask, let_in = Supply._ask, Supply._let_in

    def asking(self: Supply, needed: Any) -> Any:
        told.append("ask")
        return ask(self, needed)

    def letting_in(self: Supply, coming: Any, *, but: int = 0) -> None:
        let_in(self, coming, but=but)
        told.append("nearly all" if but else "all")

    monkeypatch.setattr(Supply, "_ask", asking)
    monkeypatch.setattr(Supply, "_let_in", letting_in)
    with PageCache(image, budget=333 * PAGE) as cache:
        swept(cache)
    assert told[:5] == ["ask", "nearly all", "ask", "all", "nearly all"]
    assert told[-2:] == ["nearly all", "all"]


def test_nothing_is_written_once_the_cache_is_closed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still coming in when somebody closes the cache has come before the memory goes."""
    late: list[int] = []
    plain = Arena.write

    def write(self: Arena, frame: int, pieces: Any) -> None:
        time.sleep(0.05)
        late.extend([frame] if self.fd < 0 else [])
        plain(self, frame, pieces)

    read = Filler.sectors_into

    def slowly(self: Filler, *arguments: Any, **more: Any) -> list[int]:
        time.sleep(0.05)  # so that checksums are asked for while the cache is being closed
        return read(self, *arguments, **more)

    monkeypatch.setattr(Arena, "write", write)
    monkeypatch.setattr(Filler, "sectors_into", slowly)
    files = "do = [" + ", ".join(f'{{file = "/{number}", random = "400K"}}' for number in range(8)) + "]"
    with open_image(built(tmp_path, files)) as image:
        cache = PageCache(image, budget=512 * PAGE)  # one file at a time
        pieces = cache.read_all()
        next(pieces)
        cache.close()
        with pytest.raises(ValueError, match="the page cache is closed"):
            for _ in pieces:
                pass
        assert not late
        assert not cache.supplies


def test_a_cache_is_closed_while_files_are_looked_up(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PageCache(image, budget=PAGE)
    look_up = filerows.of_image

    def close_after(*arguments: Any, **more: Any) -> Any:
        rows = look_up(*arguments, **more)
        cache.close()
        return rows

    monkeypatch.setattr(filerows, "of_image", close_after)
    with pytest.raises(ValueError, match="the page cache is closed"):
        cache.read_all()


def test_an_image_without_files(tmp_path: Any) -> None:
    with open_image(built(tmp_path, "")) as image, PageCache(image, budget=PAGE) as cache:
        assert list(cache.read_all()) == []
