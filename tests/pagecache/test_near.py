"""Single pages that are read again: found by the frame that had them, copied without lock, and never another page."""

from __future__ import annotations

import random
from array import array
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.mounted import PATIENCE
from support.program import built

from btrimg.filesystem.image import open_image
from btrimg.pagecache import posted
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import Domains
from btrimg.volume.device import Device
from pagecache.test_cache import RECIPE, true_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with open_image(built(tmp_path_factory.mktemp("near"), RECIPE)) as image:
        yield image


class Meddling:
    """The memory of a cache, in which something happens while somebody copies out of it."""

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.meanwhile: Callable[[], object] | None = None

    def __getitem__(self, which: slice) -> memoryview:
        happens, self.meanwhile = self.meanwhile, None
        if happens:
            happens()
        return self.memory[which]

    def __setitem__(self, which: slice, data: Any) -> None:
        self.memory[which] = data

    def release(self) -> None:
        self.memory.release()


def test_a_frame_that_is_given_to_another_page_while_it_is_copied(image: Image) -> None:
    with PageCache(image, budget=PAGE) as cache:
        memory: Any = Meddling(cache.store.memory)
        cache.store.memory = memory
        big, tail = cache.open(image.open(b"/big")), cache.open(image.open(b"/tail"))
        known = true_bytes(image, big)
        for _ in range(3):
            assert big.read(5 * PAGE, PAGE) == known[5 * PAGE : 6 * PAGE]
        assert cache.statistics().misses == 1
        memory.meanwhile = lambda: tail.read(0, PAGE)
        assert big.read(5 * PAGE, PAGE) == known[5 * PAGE : 6 * PAGE]
        assert memory.meanwhile is None
        found = cache.statistics()
        assert (found.misses, found.hits, found.evicted) == (3, 2, 2)


def test_what_was_copied_of_another_page_is_not_left_in_the_room(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    with PageCache(image, budget=PAGE) as cache:
        memory: Any = Meddling(cache.store.memory)
        cache.store.memory = memory
        big, tail = cache.open(image.open(b"/big")), cache.open(image.open(b"/tail"))
        big.read(0, PAGE)
        memory.meanwhile = lambda: (tail.read(0, PAGE), monkeypatch.setattr(cache.filler, "pages_into", None))
        room = bytearray(PAGE)
        with pytest.raises(TypeError):
            big.readinto(room)
        assert room == bytes(PAGE)


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_that_read_pages_again_while_frames_change(image: Image, policy: str) -> None:
    with PageCache(image, budget=24 * PAGE, policy=policy) as cache:
        files = [cache.open(image.open(name)) for name in (b"/big", b"/copy", b"/tail", b"/packed")]
        known = [true_bytes(image, file) for file in files]
        asked = 600

        def work(number: int) -> int:
            draw, room = random.Random(number), bytearray(300)
            wrong = 0
            for _ in range(asked):
                at = draw.randrange(len(files))
                offset = draw.choice((draw.randrange(5), draw.randrange(40))) * PAGE + draw.randrange(3000)
                length = files[at].readinto(room, offset)
                wrong += room[:length] != known[at][offset : offset + length]
            return wrong

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(work, range(4))) == 0
        found = cache.statistics()
        assert found.reads == 4 * asked
        assert found.hits + found.misses >= 4 * asked  # a page may be lost between coming in and being copied
        assert found.evicted > 100
        cache.store.settle()
        assert sorted(cache.store._policy.evict() for _ in cache.store.frames_in_use()) == cache.store.frames_in_use()


def test_pages_side_by_side_are_remembered_together_and_counted(image: Image) -> None:
    with PageCache(image, budget=600 * PAGE) as cache:
        big, copy = cache.open(image.open(b"/big")), cache.open(image.open(b"/copy"))
        known = big.read(0, big.size)
        assert copy.read(17 * PAGE, 9) == known[17 * PAGE :][:9]
        before = cache.statistics()
        for page in range(256):
            assert copy.read(page * PAGE + 7, PAGE - 7) == known[page * PAGE + 7 : (page + 1) * PAGE]
        found = cache.statistics()
        assert found.lookups == before.lookups  # none of them was looked for
        assert found.hits - before.hits == found.shared_hits - before.shared_hits == found.reads - before.reads == 256


def test_refused_pages_are_counted_by_reason(image: Image) -> None:
    with PageCache(image, budget=600 * PAGE) as cache:
        small = cache.open(image.open(b"/small"))
        for _ in range(5):
            assert small.read(2, 3) == b"few"
        assert cache.statistics().refused == {"inline": 5}


@pytest.mark.parametrize("offset", [0, 8 * PAGE])
def test_rooms_of_all_kinds(image: Image, offset: int) -> None:
    with PageCache(image, budget=600 * PAGE) as cache:
        big = cache.open(image.open(b"/big"))
        known = true_bytes(image, big)[offset : offset + PAGE]
        big.read(offset, PAGE), big.read(offset, PAGE)
        strided = memoryview(bytearray(2 * PAGE))[::2]
        rooms: tuple[Any, ...] = (np.zeros(512), array("q", bytes(PAGE)))
        for room in (*rooms, memoryview(bytearray(PAGE)).cast("B", (64, 64))):
            assert big.readinto(room, offset) == PAGE
            assert memoryview(room).tobytes() == known
        many: Any = np.zeros(PAGE)
        assert big.readinto(many, offset) == 8 * PAGE
        assert many.tobytes()[:PAGE] == known
        assert big.readinto(strided, offset) == PAGE
        assert strided.tobytes() == known
        assert big.readinto(bytearray(), offset) == 0
        unfit: list[Any] = [bytes(PAGE), [0] * PAGE, 7]
        for wrong in unfit:
            with pytest.raises(TypeError):
                big.readinto(wrong, offset)


def test_wrong_reads_are_counted_each_time(image: Image) -> None:
    """The posted scheme's pages are looked at whenever they are read, also those that were found before."""
    with PageCache(image, budget=4096 * PAGE, scheme="device-posted") as cache:
        for _ in range(3):
            for file in cache.open_all():
                for at in range(0, file.size, PAGE):
                    file.read(at, PAGE)
        assert (
            cache.statistics().wrong
            == 3 * sum(posted.examine(of_image(image), Domains()).pages_by_defect().values())
            > 0
        )


def test_nothing_is_read_after_the_end(image: Image) -> None:
    cache = PageCache(image, budget=64 * PAGE)
    big, part = cache.open(image.open(b"/big")), cache.open(image.open(b"/part"))
    for _ in range(3):
        big.read(0, PAGE)
    cache.close()
    cache.close()
    for offset in (0, 9 * PAGE):
        with pytest.raises(ValueError, match="the page cache is closed"):
            big.read(offset, PAGE)
    with pytest.raises(ValueError, match="the page cache is closed"):
        part.read(0, PAGE)  # a hole
    with pytest.raises(ValueError, match="the page cache is closed"):
        list(cache.read_all())


def test_devices_are_not_closed_under_who_reads(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then their descriptors may be those of other files."""
    cache = PageCache(image, budget=40 * PAGE, direct=True)
    big, plain = cache.open(image.open(b"/big")), Device.pread_into
    known = true_bytes(image, big)
    closers: list[Thread] = []

    def while_closing(self: Device, buffer: memoryview, offset: int) -> None:
        if not closers:
            closers.append(Thread(target=cache.close))
            closers[0].start()
            while not cache.store.closed:
                pass
            closers[0].join(0.2)
            assert closers[0].is_alive()
        plain(self, buffer, offset)

    monkeypatch.setattr(Device, "pread_into", while_closing)
    assert big.read(0, PAGE) == known[:PAGE]
    closers[0].join(PATIENCE)
    assert not closers[0].is_alive()
    with pytest.raises(ValueError, match="the page cache is closed"):
        big.read(0, PAGE)


@pytest.mark.parametrize(("scheme", "direct"), [("extent", True), ("content", False), ("none", False)])
def test_who_reads_while_it_is_closed_gets_right_bytes_or_is_told(image: Image, scheme: str, *, direct: bool) -> None:
    for round_ in range(4):
        cache = PageCache(image, budget=40 * PAGE, scheme=scheme, direct=direct)
        files = [cache.open(image.open(name)) for name in (b"/big", b"/packed", b"/tail")]
        known = [true_bytes(image, file) for file in files]

        def work(number: int, files: Any = files, known: Any = known) -> str:
            draw = random.Random(number)
            while True:
                at, length = draw.randrange(3), draw.choice((100, 60_000))
                offset = draw.randrange(len(known[at]))
                try:
                    got = files[at].read(offset, length)
                except ValueError as error:
                    return str(error)
                if got != known[at][offset : offset + length]:
                    return "wrong bytes"

        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(work, number) for number in range(3)]
            while cache.statistics().reads < 10 * (round_ + 1) and not any(job.done() for job in jobs):
                pass
            cache.close()
            said = {job.result() for job in jobs}
        assert said == {"the page cache is closed: nothing can be read through it any more"}
