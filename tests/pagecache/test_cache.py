"""The cache of an image that is only read: right bytes at any budget, from any thread, and nothing wrong is kept."""

from __future__ import annotations

import itertools
import mmap
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import kernel
from support.images import copy_sparse
from support.matrix import name_of, options_of, variants
from support.program import built

from btrimg.errors import ChecksumError, DeviceError
from btrimg.filesystem.image import open_image
from btrimg.filesystem.inode import Inode
from btrimg.pagecache import posted
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import KernelImage

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.handle import CachedFile

RIGHT = sorted(SCHEMES.keys() - {"device-posted"})
PICKED = (("dup", "xxhash"), ("raid10", "crc32c"))
CELLS = [next(cell for cell in variants() if cell[0] == profile and cell[2] == csum) for profile, csum in PICKED]
RECIPE = """
do = [
    {file = "/big", random = "1M"},
    {reflink = "/copy", from = "/big"},
    {file = "/packed", pattern = "the very same 32 bytes as always", size = "768K", compress = "zstd"},
    {reflink = "/part", from = "/packed", from-offset = "128K", length = "256K", offset = "64K"},
    {reflink = "/part", from = "/big", from-offset = "512K", length = "64K", offset = "128K"},
    {file = "/tail", random = 200123},
    {file = "/small", text = "a few bytes"},
    {reflink = "/longer", from = "/tail"},
    {truncate = "/longer", size = 210000},
    {snapshot = "/again", of = "/"},
]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("cache"), RECIPE)


@pytest.fixture(scope="module")
def image(path: str) -> Iterator[Image]:
    with open_image(path) as image:
        yield image


def true_bytes(image: Image, file: CachedFile) -> bytes:
    return Inode(image, image.subvolume(file.place.subvolume), file.place.inode).read(0, file.size)


@pytest.mark.parametrize(("scheme", "policy"), [*zip(RIGHT, itertools.cycle(sorted(POLICIES)), strict=False)])
def test_all_files_are_right_at_any_budget(image: Image, scheme: str, policy: str) -> None:
    for pages in (1, 50, 4096):
        with PageCache(image, budget=pages * PAGE, scheme=scheme, policy=policy) as cache:
            for file in (*cache.open_all(), *cache.open_all()):
                assert file.read(0, file.size + 1) == true_bytes(image, file)
                assert cache.store.resident <= pages
            found = cache.statistics()
            assert found.reads == 2 * sum(1 for _ in cache.open_all())
            assert found.budget == pages * PAGE
            assert (found.evicted > 0) == (pages < 4096)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_random_reads_are_right(image: Image, data: st.DataObject) -> None:
    scheme, policy = data.draw(st.sampled_from(RIGHT)), data.draw(st.sampled_from(sorted(POLICIES)))
    pages = data.draw(st.integers(1, 400))
    with PageCache(image, budget=pages * PAGE, scheme=scheme, policy=policy, account=data.draw(st.booleans())) as cache:
        files = list(cache.open_all())
        known = [true_bytes(image, file) for file in files]
        for _ in range(data.draw(st.integers(1, 25))):
            at = data.draw(st.integers(0, len(files) - 1))
            offset, length = data.draw(st.integers(0, files[at].size)), data.draw(st.integers(0, 300_000))
            assert files[at].read(offset, length) == known[at][offset : offset + length]
            assert cache.store.resident <= pages


@pytest.mark.kernel
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_the_kernel_reads_the_same(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    made = kernel_image(**options_of(cell))
    with (
        kernel.alone(made.devices),
        open_image(made.devices) as image,
        kernel.mount(made.devices, read_only=True) as mount,
        PageCache(image, budget=64 * PAGE) as cache,
    ):
        count = 0
        for directory, _, names in os.walk(os.fsencode(mount)):
            for name in names:
                where = os.path.join(directory, name)
                if not os.path.isfile(where) or os.path.islink(where) or os.path.getsize(where) > 1 << 26:
                    continue
                inode = image.open(b"/" + os.path.relpath(where, os.fsencode(mount)))
                with open(where, "rb") as file:
                    data = file.read()
                cached = cache.open(inode)
                got = cached.read(0, len(data) + 1)
                assert got == true_bytes(image, cached), where
                assert got == data, where
                count += 1
        assert count > 10


def test_reflinks_are_one_copy(image: Image) -> None:
    with PageCache(image, budget=4096 * PAGE, account=True) as cache:
        big, copy = cache.open(image.open(b"/big")), cache.open(image.open(b"/again/copy"))
        assert big.read(0, big.size) == copy.read(0, copy.size)
        found = cache.statistics()
        assert (found.resident, found.misses, found.hits, found.shared_hits) == (1 << 20, 256, 256, 256)
        assert found.uses[big.place] == (1 << 20, 1 << 19)
        assert found.uses[copy.place] == (0, 1 << 19)
        assert found.duplicates == 0
    with PageCache(image, budget=4096 * PAGE, scheme="inode") as cache:
        for name in (b"/big", b"/copy", b"/again/big"):
            cache.open(image.open(name)).read(0, 1 << 20)
        assert cache.statistics().resident == 3 << 20
        assert cache.statistics().duplicates == 2 << 20


def test_each_reader_has_its_own_under_none(image: Image) -> None:
    with PageCache(image, budget=4096 * PAGE, scheme="none") as cache:
        files = [cache.open(image.open(b"/big")) for _ in range(3)]
        assert len({file.read(0, file.size) for file in files}) == 1
        assert cache.statistics().resident == 3 << 20
        files[0].close()
        assert cache.statistics().resident == 2 << 20


def test_a_compressed_extent_is_decoded_once(image: Image) -> None:
    with PageCache(image, budget=4096 * PAGE) as cache:
        packed, part = cache.open(image.open(b"/packed")), cache.open(image.open(b"/part"))
        assert packed.read(5000, 10) == true_bytes(image, packed)[5000:5010]
        assert cache.statistics().resident == 128 << 10
        packed.read(0, packed.size)
        part.read(0, part.size)
        assert cache.statistics().resident == (768 + 64) << 10  # and what was put over a part of the extent


def test_the_memory_can_be_mapped_by_its_descriptor(image: Image) -> None:
    with PageCache(image, budget=16 * PAGE) as cache:
        data = cache.open(image.open(b"/big")).read(0, PAGE)
        ((frame, *_),) = [found[:1] for found in [cache.store.frames_in_use()]]
        with mmap.mmap(cache.fd, 16 * PAGE, prot=mmap.PROT_READ) as shown:
            assert shown[frame * PAGE : (frame + 1) * PAGE] == data


def test_warm_pages_are_found_by_their_frames_only_while_they_are_there(image: Image) -> None:
    with PageCache(image, budget=4 * PAGE) as cache:
        big, tail = cache.open(image.open(b"/big")), cache.open(image.open(b"/tail"))
        known, others = true_bytes(image, big), true_bytes(image, tail)
        room = bytearray(100)
        draw = random.Random(1)
        for page in (draw.randrange(3) for _ in range(300)):
            assert big.readinto(room, page * PAGE + 50) == 100
            assert room == known[page * PAGE + 50 :][:100]
            assert tail.read(page * PAGE, 60) == others[page * PAGE :][:60]
        assert 0 < cache.statistics().hits < 500
        with pytest.raises(ValueError, match="offset of -1"):
            big.readinto(room, -1)


def test_threads_fetch_each_page_once(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Device.pread_into

    def counted(self: Device, buffer: memoryview, offset: int) -> None:
        read.extend(range(offset, offset + len(buffer), PAGE))
        plain(self, buffer, offset)

    monkeypatch.setattr(Device, "pread_into", counted)
    with PageCache(image, budget=4096 * PAGE) as cache:
        files = [cache.open(image.open(name)) for name in (b"/big", b"/copy", b"/again/big")]
        known = true_bytes(image, files[0])

        def work(number: int) -> bool:
            draw = random.Random(number)
            starts = [draw.randrange(len(known)) for _ in range(40)]
            return all(files[number % 3].read(at, 70_000) == known[at : at + 70_000] for at in starts)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
        assert len(read) == len(set(read)) <= 256
        assert cache.statistics().resident == len(read) * PAGE


def test_threads_in_a_cache_that_is_too_small(image: Image) -> None:
    with PageCache(image, budget=9 * PAGE, policy="s3-fifo") as cache:
        files = list(cache.open_all())
        known = [true_bytes(image, file) for file in files]

        def work(number: int) -> bool:
            draw = random.Random(number)
            for _ in range(40):
                at = draw.randrange(len(files))
                start = draw.randrange(len(known[at]))
                if files[at].read(start, 50_000) != known[at][start : start + 50_000]:
                    return False
            return cache.store.resident <= 9

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))


def place_of(image: Image, page: int, copy: int = 0) -> int:
    """Return where on the only device a page of /big is."""
    row = next(iter(image.open(b"/big").extents()))
    assert row.logical is not None
    return image.volume.chunk_map.locate(row.logical + page * PAGE).copies[copy].physical


def damage(path: str, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"\xde\xad" * 8)


@pytest.mark.parametrize("scheme", ["extent", "content", "device"])
def test_a_bad_sector_fails_its_read_only_and_is_not_kept(path: str, tmp_path: Any, scheme: str) -> None:
    (broken,) = copy_sparse([path], str(tmp_path / "broken"))
    with open_image(broken) as image:
        known = image.open(b"/big").read(0, 1 << 20)
        damage(broken, place_of(image, 100))
        with PageCache(image, budget=300 * PAGE, scheme=scheme) as cache:
            for name in (b"/big", b"/copy"):
                file = cache.open(image.open(name))
                for _ in range(2):
                    with pytest.raises(ChecksumError):
                        file.read(0, 1 << 20)
                    assert file.read(0, 100 * PAGE) == known[: 100 * PAGE]
                    assert file.read(101 * PAGE, 1 << 20) == known[101 * PAGE :]
                    with pytest.raises(ChecksumError):
                        file.read(100 * PAGE + 5, 1)
            for frame in cache.store.frames_in_use():
                held = bytes(cache.store.memory[frame * PAGE : (frame + 1) * PAGE])
                assert known.find(held) % PAGE == 0


def test_the_other_copy_is_used(tmp_path: Any) -> None:
    broken = built(tmp_path, RECIPE, "--data", "dup")
    heard: list[str] = []
    with open_image(broken, warn=heard.append) as image:
        known = image.open(b"/big").read(0, 1 << 20)
        damage(broken, place_of(image, 7, 0))
        damage(broken, place_of(image, 9, 1))
        with PageCache(image, budget=300 * PAGE) as cache:
            for _ in range(2):
                assert cache.open(image.open(b"/big")).read(0, 1 << 20) == known
            assert cache.statistics().hits == 256
    assert len(heard) == 1
    assert "another is good" in heard[0]


def test_an_image_that_was_cut_while_it_is_read(path: str, tmp_path: Any) -> None:
    (broken,) = copy_sparse([path], str(tmp_path / "broken"))
    with open_image(broken, warn=lambda _: None) as image:
        known = image.open(b"/big").read(0, 1 << 20)
        file_at = place_of(image, 50)
        with PageCache(image, budget=300 * PAGE) as cache:
            file = cache.open(image.open(b"/big"))
            os.truncate(broken, file_at)
            with pytest.raises(DeviceError):
                file.read(0, 1 << 20)
            assert file.read(0, 50 * PAGE) == known[: 50 * PAGE]
            assert cache.store.resident == 50
            with pytest.raises(DeviceError):
                file.read(50 * PAGE, 1)


def test_direct_reads_are_the_same(image: Image) -> None:
    with PageCache(image, budget=300 * PAGE, direct=True) as cache:
        for file in cache.open_all():
            assert file.read(0, file.size) == true_bytes(image, file)


def test_large_sectors(tmp_path: Any) -> None:
    with open_image(built(tmp_path, RECIPE, "--sectorsize", "64K")) as image:
        for pages in (1, 40, 4096):
            with PageCache(image, budget=pages * PAGE) as cache:
                for file in cache.open_all():
                    known = true_bytes(image, file)
                    assert file.read(70_000, 9000) == known[70_000:79_000]
                    assert file.read(0, file.size) == known


def test_wrong_reads_of_the_posted_scheme_are_those_that_the_chunk_map_says(image: Image) -> None:
    with PageCache(image, budget=4096 * PAGE, scheme="device-posted") as cache:
        for file in cache.open_all():
            file.read(0, file.size)
        wrong = sum(posted.examine(of_image(image), Domains()).pages_by_defect().values())
        assert cache.statistics().wrong == wrong > 0
