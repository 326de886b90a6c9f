"""The shared cache beside a mount of the same image: how much is in memory, and how long things take."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from mmap import ACCESS_READ, mmap
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import NotFoundError
from btrimg.filesystem.columns import COMPRESSED, HOLE, REGULAR
from btrimg.named import NamedTuple
from btrimg.pagecache import residency
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.views import Views
from btrimg.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import Ints, KeyRuns

SHARERS = (1, 4, 16, 64)  #: files that are read, of those that there are
_READS = 5_000  # of a page each
_TOLD = 512  # files
_ADDRESSES = 1 << 18
_ROUNDS = 5


class Measured(NamedTuple):
    """One thing that was measured; the mount's is None where there is no mount, or nothing to compare."""

    name: str
    what: str
    unit: str  #: bytes, frames or ns
    cache: float
    mount: float | None


class Sharers(NamedTuple):
    """Files that consist of the same extents."""

    inodes: list[Inode]
    paths: list[bytes]
    size: int


def find_sharers(image: Image, rows: FileRows, most: int = max(SHARERS)) -> Sharers:
    """Return files with equal lists of extents, by which sharing would save the most; a file alone if there are none.

    Raises NotFoundError when no file has data that could be shared.
    """
    keys = SCHEMES["whole-file"].keys(rows, Domains())
    data = np.bincount(keys.file, _data_pages(rows, keys), minlength=rows.files.rows) * PAGE
    firsts = np.flatnonzero((keys.page == 0) & (keys.refusal == 0))
    file = keys.file[firsts]
    # To read a file with much in it that is not there would say more of the holes.
    named = (rows.files.path[file] >= 0) & (data[file] > 0) & (2 * data[file] >= rows.files.size[file])
    firsts, file = firsts[named], file[named]
    if not len(file):
        raise NotFoundError("there is no file with data that could be shared")
    order = np.lexsort((file, keys.number[firsts], keys.unit[firsts]))
    unit, number, file = keys.unit[firsts][order], keys.number[firsts][order], file[order]
    starts = np.flatnonzero(np.append(True, (unit[1:] != unit[:-1]) | (number[1:] != number[:-1])))
    counts = np.diff(np.append(starts, len(file)))
    size = rows.files.size[file[starts]]
    best = int(np.argmax(size * np.minimum(counts, most)))
    chosen = file[starts[best] : starts[best] + min(int(counts[best]), most)].tolist()
    paths = [rows.path_of(each) or b"" for each in chosen]
    return Sharers([image.open(path, follow=False) for path in paths], paths, int(size[best]))


def _data_pages(rows: FileRows, keys: KeyRuns) -> Ints:
    """Return how many pages of each run are data of extents."""
    kind = np.append(rows.extents.kind, HOLE)[keys.row]  # -1: none
    return np.where((kind == REGULAR) | (kind == COMPRESSED), keys.pages, 0)


def measure(
    image: Image, tops: Sequence[Inode], mount: str | None, tick: Callable[[int, int], None], *, every: bool
) -> Iterator[Measured]:
    """Yield what was measured, of files at or below *tops*, all without; *mount* is where the kernel shows the image.

    With *every*, all files are read, too, once each. *tick* hears of files and bytes that were read.
    """
    rows = of_image(image, tops, named=True)
    sharers = find_sharers(image, rows)
    hosts = [os.fsencode(mount) + path for path in sharers.paths] if mount else []
    yield from _memory(image, sharers, hosts, tick)
    yield from _frames(image, sharers, hosts)
    yield from _speed(image, sharers, hosts)
    yield _translation(rows)
    if every:
        yield from _everything(image, tops, rows, mount, hosts, tick)


def _memory(image: Image, sharers: Sharers, hosts: list[bytes], tick: Callable[[int, int], None]) -> Iterator[Measured]:
    """Yield bytes in memory after some of the files were read whole."""
    budget = (len(sharers.inodes) + 1) * (sharers.size + PAGE)  # so that nothing goes, however it is shared
    for count in sorted({min(number, len(sharers.inodes)) for number in SHARERS}):
        room = memoryview(bytearray(min(sharers.size, 4 * MIB)))
        with PageCache(image, budget=budget) as cache:
            for inode in sharers.inodes[:count]:
                with closing(cache.open(inode)) as file:
                    for at in range(0, sharers.size, len(room)):
                        file.readinto(room, at)
                tick(1, sharers.size)
            ours = cache.store.resident * PAGE
        theirs = None
        for host in hosts:
            residency.drop(host)
        if hosts:
            for host in hosts[:count]:
                _read_host(host, room)
            theirs = sum(map(residency.resident, hosts[:count]))
        yield Measured(f"resident-{count}", f"{count} files of {sharers.size} bytes, read", "bytes", ours, theirs)


class _Told:
    """Tells of files now and then: to say so of each would take longer than the file."""

    def __init__(self, tick: Callable[[int, int], None]) -> None:
        self._tick, self._files, self._bytes = tick, 0, 0

    def add(self, new: bool, size: int) -> None:
        """Count bytes, and a file if it is a *new* one."""
        self._files += new
        self._bytes += size
        if self._files >= _TOLD or self._bytes >= GIB:
            self.finish()

    def finish(self) -> None:
        """Tell what has not been told."""
        self._tick(self._files, self._bytes)
        self._files = self._bytes = 0


def _read_host(path: bytes, room: memoryview) -> int:
    """Read a file, but for its holes; return how many bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status, rooms = os.fstat(fd), [room]
        sparse = 2 * 512 * status.st_blocks < status.st_size
        at = done = 0
        while at < status.st_size:
            if sparse:
                at = os.lseek(fd, at, os.SEEK_DATA)
            count = os.preadv(fd, rooms, at)
            at, done = at + count, done + count
            if not count:
                break
        return done
    except OSError as error:
        if error.errno == errno.ENXIO:  # no more data
            return done
        raise
    finally:
        os.close(fd)


def _frames(image: Image, sharers: Sharers, hosts: list[bytes]) -> Iterator[Measured]:
    """Yield the page frames of views of two of the files, both together; only root may know them."""
    if os.geteuid():
        return
    views = Views(image)
    ours = [residency.frames(views.view(inode)) for inode in sharers.inodes[:2]]
    theirs = []
    for host in hosts[:2]:
        with open(host, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            theirs.append(residency.frames(mapped))
    what = f"page frames of {len(ours)} files of {len(ours[0])} pages, mapped"
    yield Measured("view-frames", what, "frames", _distinct(ours), _distinct(theirs) if theirs else None)


def _distinct(found: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> int:
    return len(set[int]().union(*(numbers.tolist() for numbers in found)))


def _speed(image: Image, sharers: Sharers, hosts: list[bytes]) -> Iterator[Measured]:
    """Yield nanoseconds for reading a page at random, when all is in memory."""
    pages = max(sharers.size // PAGE, 1)
    places: list[int] = (np.random.default_rng(0).integers(0, pages, _READS) * PAGE).tolist()
    room = memoryview(bytearray(PAGE))
    inode = sharers.inodes[0]
    fd = os.open(hosts[0], os.O_RDONLY | os.O_CLOEXEC) if hosts else -1
    with PageCache(image, budget=2 * (sharers.size + PAGE)) as cache, closing(cache.open(inode)) as file:
        view = file.view()

        def slices() -> None:
            for at in places:
                view[at : at + PAGE]

        def copies() -> None:
            for at in places:
                bytes(view[at : at + PAGE])

        def cached() -> None:
            readinto = file.readinto
            for at in places:
                readinto(room, at)

        def mounted() -> None:
            preadv, rooms = os.preadv, [room]
            for at in places:
                preadv(fd, rooms, at)

        ways = [slices, copies, cached, *([mounted] if hosts else [])]
        try:
            times = _interleaved(ways)
        finally:
            if hosts:
                os.close(fd)
    theirs = times[3] / _READS if hosts else None
    yield Measured("view", "4 KiB of a view, in place, against preadv", "ns", times[0] / _READS, theirs)
    yield Measured("copy", "4 KiB copied from a view, against preadv", "ns", times[1] / _READS, theirs)
    yield Measured("readinto", "4 KiB read through the cache, against preadv", "ns", times[2] / _READS, theirs)


def _interleaved(ways: Sequence[Callable[[], None]]) -> list[float]:
    """Return how many nanoseconds each takes: medians of rounds in turns, after one to warm up."""
    rounds = []
    for _ in range(_ROUNDS + 1):
        times = []
        for way in ways:
            start = perf_counter_ns()
            way()
            times.append(perf_counter_ns() - start)
        rounds.append(times)
    return [median(column) for column in zip(*rounds[1:], strict=True)]


def _translation(rows: FileRows) -> Measured:
    """Return nanoseconds for finding the place on a device of a byte of a file, many at random at a time."""
    extents = rows.extents
    starts = np.append(0, np.cumsum(extents.length))  # with holes, files are one after the other
    wanted = np.random.default_rng(0).integers(0, int(starts[-1]), _ADDRESSES)
    places = rows.place_map()
    times = []
    for _ in range(_ROUNDS):
        start = perf_counter_ns()
        row = np.searchsorted(starts, wanted, "right") - 1
        places.locate((extents.logical[row] + wanted - starts[row]).view(np.uint64))
        times.append(perf_counter_ns() - start)
    return Measured("translation", "a file's byte to its place, in batches", "ns", median(times) / _ADDRESSES, None)


def _everything(
    image: Image,
    tops: Sequence[Inode],
    rows: FileRows,
    mount: str | None,
    read: Sequence[bytes],
    tick: Callable[[int, int], None],
) -> Iterator[Measured]:
    """Yield how long it takes to read every file once, and what is in memory then. Holes are left out by both.

    *read* are those that the mount has in memory already. The image itself is in memory before, if it fits: that says
    more of the two than of the disk.
    """
    room = memoryview(bytearray(4 * MIB))
    for device in image.volume.devices.values():
        if os.stat(device.path).st_blocks * 512 < _half_of_memory():
            _read_host(os.fsencode(device.path), room)
    start = perf_counter_ns()
    with PageCache(image, budget=_memory_for(rows)) as cache:
        told = _Told(tick)
        bad = files = 0
        last = None
        for place, _, _, data, error in cache.read_all(tops):
            new = place != last
            told.add(new, len(data))
            bad, files, last = bad + (error is not None), files + new, place
        took, held = perf_counter_ns() - start, cache.store.resident * PAGE
        told.finish()
    theirs: float | None = None
    in_mount: float | None = None
    if mount:
        for path in read:
            residency.drop(path)
        theirs = in_mount = 0
        for path in (os.fsencode(mount) + path for path in map(rows.path_of, range(rows.files.rows)) if path):
            start = perf_counter_ns()
            try:
                size = _read_host(path, room)
            except FileNotFoundError:  # what hangs nowhere has no path there
                continue
            theirs += perf_counter_ns() - start
            in_mount += residency.resident(path)  # at once: what is read later may take its place
            told.add(True, size)
        told.finish()
    lost = f", {bad} pieces could not be had" if bad else ""
    what = f"{files} files read, by the cache in place, opening included; none in memory{lost}"
    yield Measured("everything", what, "ns", took, theirs)
    yield Measured("everything-resident", "memory that it takes", "bytes", held, in_mount)


def _memory_for(rows: FileRows) -> int:
    """Return bytes in which all that was read stays: each extent's pages once, and no more than half of the memory."""
    keys = SCHEMES["extent"].keys(rows, Domains())
    return min(
        2 * int(_data_pages(rows, keys).sum()) * PAGE, _half_of_memory()
    )  # twice: the bulk path looks at a quarter at a time


def _half_of_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
