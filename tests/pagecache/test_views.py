"""Views: the kernel's bytes, page frames in common for what shares extents, and nothing used after it is gone."""

from __future__ import annotations

import gc
import os
import random
import stat
from contextlib import ExitStack
from mmap import ACCESS_READ, PAGESIZE, mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import kernel
from support.demo import spoil
from support.frames import frames_of
from support.images import mkfs, new_devices
from support.matrix import name_of, options_of, variants

from btrimg.errors import ChecksumError, DeviceError, NotFoundError, UnsupportedError
from btrimg.filesystem.image import open_image
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.views import Views
from btrimg.units import MIB
from btrimg.volume.mapping import AREA_MAX, GRAIN, Area

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.images import KernelImage

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

#: One for each way in which data are laid out; test_stripes_are_shared_too has others.
CELLS = [
    next(cell for cell in variants() if cell.profile == profile)
    for profile in ("single", "raid0", "raid1c3", "raid10", "raid6")
]
KINDS = {"regular", "compressed", "inline", "prealloc", "hole"}
SIZE = 4 * MIB


def _files(image: Image) -> Iterator[Inode]:
    """Yield every regular file of every subvolume, names that lead to it once."""
    pending = [image.open(b"/")]
    while pending:
        for _, inode in pending.pop().entries():
            if inode.is_directory:
                pending.append(inode)
            elif inode.is_regular:
                yield inode


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_every_view_has_the_bytes_that_the_kernel_showed(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options_of(cell))
    seen = set[str]()
    with open_image(written.devices) as image:
        views = Views(image)
        for path, entry in written.truth.entries.items():
            if not stat.S_ISREG(entry.stat.mode) or entry.content is None:
                continue
            inode = image.open(path, follow=False)
            seen.update(row.kind for row in inode.extents(holes=True))
            assert views.view(inode) == entry.content, path
    assert seen == KINDS


def _shared_files(directory: str, profile: str = "single", count: int = 1) -> tuple[Sequence[str], bytes]:
    """Have the kernel write a file, a reflink of it, and a snapshot of both; return the devices and its bytes."""
    devices = new_devices(directory, count, 256 * MIB)
    mkfs(devices, profile, "dup" if count == 1 else "raid1")
    content = random.Random(1).randbytes(SIZE)
    with kernel.mount(devices) as top:
        kernel.create_subvolume(os.fsencode(top) + b"/sub")
        with open(f"{top}/sub/file", "wb") as file:
            file.write(content)
        kernel.sync(top)
        kernel.clone(f"{top}/sub/file", f"{top}/sub/reflink")
        kernel.create_snapshot(os.fsencode(top) + b"/sub", os.fsencode(top) + b"/snapshot", read_only=True)
    return devices, content


PATHS = (b"/sub/file", b"/sub/reflink", b"/snapshot/file", b"/snapshot/reflink")


@pytest.mark.kernel
@pytest.mark.progs
def test_sharers_have_every_page_frame_in_common_and_on_the_kernels_mount_none(tmp_path: Any) -> None:
    devices, content = _shared_files(str(tmp_path))
    with kernel.mount(devices, read_only=True) as top, open_image(devices[0]) as image:
        views = Views(image)
        viewed = [views.view(image.open(path)) for path in PATHS]
        assert all(view == content for view in viewed)
        ours = frames_of(*viewed)
        with ExitStack() as stack:
            mapped = []
            for path in PATHS:
                file = stack.enter_context(open(os.fsencode(top) + path, "rb"))
                mapped.append(stack.enter_context(mmap(file.fileno(), 0, access=ACCESS_READ)))
            assert all(each[:] == content for each in mapped)
            theirs = frames_of(*mapped)
    assert len(set(ours[0])) == SIZE // PAGESIZE
    assert ours[1:] == ours[:1] * 3
    assert len(set().union(*theirs)) == 4 * SIZE // PAGESIZE


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize(("profile", "count"), [("raid0", 3), ("raid5", 4), ("raid10", 6), ("raid1", 2)])
def test_stripes_are_shared_too(profile: str, count: int, tmp_path: Any) -> None:
    devices, content = _shared_files(str(tmp_path), profile, count)
    with open_image(devices) as image:
        views = Views(image)
        ours = [views.view(image.open(path)) for path in PATHS]
        assert all(view == content for view in ours)
        if os.geteuid() == 0:
            frames = frames_of(*ours)
            assert frames == frames[:1] * 4


@pytest.mark.kernel
@pytest.mark.progs
def test_decompressed_pages_are_shared_and_given_back(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(compression="zstd")
    with open_image(written.devices) as image:
        packed = next(
            inode
            for inode in _files(image)
            if inode.item.size > 4 * PAGESIZE and all(row.kind == "compressed" for row in inode.extents(holes=True))
        )
        views = Views(image)
        memory = views._decoded._memory.fd
        one, other = views.view(packed), views.view(packed)
        assert bytes(one) == packed.read(0, packed.item.size)
        frames = frames_of(one, other)
        assert frames[0] == frames[1]
        assert os.fstat(memory).st_blocks > 0
        del one, other
        gc.collect()
        assert os.fstat(memory).st_blocks == 0


def test_what_is_made_of_a_view_outlives_it_and_the_image(demo_image: str) -> None:
    with open_image(demo_image) as image:
        files = [inode for inode in _files(image) if inode.item.size]
        whole = {inode.path: inode.read(0, inode.item.size) for inode in files}
        views = Views(image)
        arrays = {inode.path: np.frombuffer(views.view(inode), np.uint8)[1:] for inode in files}
        slices = {inode.path: views.view(inode)[:-1] for inode in files}
    del views, image, files
    gc.collect()
    for path, expected in whole.items():
        assert arrays[path].tobytes() == expected[1:]
        assert slices[path] == expected[:-1]
        assert not arrays[path].flags.writeable
        assert slices[path].readonly


def test_a_view_in_use_is_not_unmapped(demo_image: str) -> None:
    with open_image(demo_image) as image:
        inode = next(inode for inode in _files(image) if inode.item.size > PAGESIZE)
        view = Views(image).view(inode)
        area = view.obj
        assert isinstance(area, Area)
        with pytest.raises(BufferError):
            area.close()
        view.release()
        area.close()
        with pytest.raises(ValueError, match="closed"):
            area.lay(0, GRAIN, next(iter(image.volume.devices.values())), 0)


def test_mappings_go_with_the_last_user(demo_image: str) -> None:
    with open_image(demo_image) as image:
        inode = next(inode for inode in _files(image) if "regular" in {row.kind for row in inode.extents()})
        view = Views(image).view(inode)
        array = np.frombuffer(view, np.uint8)
        assert _mappings_of(demo_image) > 0
        del view
        gc.collect()
        assert _mappings_of(demo_image) > 0
        del array
        gc.collect()
        assert _mappings_of(demo_image) == 0


def _mappings_of(path: str) -> int:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        return sum(line.rstrip("\n").endswith(os.path.realpath(path)) for line in lines)


def _regular_file(image: Image) -> Inode:
    return next(
        inode
        for inode in _files(image)
        if inode.checksummed and [row.kind for row in inode.extents()] == ["regular"] and inode.item.size > 2 * PAGESIZE
    )


def test_a_good_copy_is_mapped_where_another_is_damaged(forged: str) -> None:
    with open_image(forged) as image:
        inode = _regular_file(image)
        path, expected = inode.path, inode.read(0, inode.item.size)
        copies = len(inode.resolve(0).copies)
    assert copies == 2
    spoil(forged, b"/" + path.lstrip(b"/"), PAGESIZE, copies=[0])
    told: list[str] = []
    with open_image(forged, warn=told.append) as image:
        inode = image.open(path)
        assert Views(image).view(inode) == expected
        assert any("first copy fails its checksum" in line for line in told)
        assert Views(image).view(inode, verify=False) != expected


def test_damage_on_all_copies_is_refused(forged: str) -> None:
    with open_image(forged) as image:
        path = _regular_file(image).path
    spoil(forged, b"/" + path.lstrip(b"/"), PAGESIZE)
    with open_image(forged, warn=lambda _: None) as image:
        views = Views(image)
        for _ in range(2):
            with pytest.raises(ChecksumError):
                views.view(image.open(path))
        assert len(views.view(image.open(path), verify=False)) == image.open(path).item.size


@pytest.mark.parametrize("verify", [True, False])
def test_a_cut_image_is_an_error(forged: str, verify: bool) -> None:
    with open_image(forged, warn=lambda _: None) as image:
        inode = _regular_file(image)
        views = Views(image)
        views.view(inode, verify=verify)  # what was verified is remembered, but not that it is there
        lowest = min(copy.physical for copy in inode.resolve(0).copies)
        os.truncate(forged, lowest)
        with pytest.raises(DeviceError):
            views.view(inode, verify=verify)


def test_sectors_are_checked_once(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_image(demo_image) as image:
        inode = _regular_file(image)
        views = Views(image)
        views.view(inode)

        def never(*_: object) -> bool:
            raise AssertionError("it was checked before")

        monkeypatch.setattr(views._sound, "_agrees", never)
        assert views.view(inode) == inode.read(0, inode.item.size)


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("mappings", [1, 8, 40])
def test_pieces_are_copied_where_a_process_may_not_have_so_many_mappings(mappings: int, tmp_path: Any) -> None:
    devices, content = _shared_files(str(tmp_path), "raid0", 3)
    with open_image(devices) as image:
        view = Views(image).view(image.open(b"/sub/file"), mappings=mappings)
        assert view == content
        assert sum(map(_mappings_of, devices)) <= mappings


def test_what_cannot_be_viewed_says_why(demo_image: str) -> None:
    with open_image(demo_image) as image:
        views = Views(image)
        with pytest.raises(NotFoundError, match="not a regular file"):
            views.view(image.open(b"/"))
        for size in (AREA_MAX + 1, 1 << 63):
            with pytest.raises(UnsupportedError, match="cannot reserve"):
                Area(size)


def test_an_area_is_zeros_and_nothing_is_laid_outside(demo_image: str) -> None:
    area = Area(3 * GRAIN - 1)
    assert bytes(area) == bytes(3 * GRAIN - 1)
    with open_image(demo_image) as image:
        device = image.volume.devices[1]
        area.lay(GRAIN, GRAIN, device, 16 * GRAIN)
        assert memoryview(area)[GRAIN : 2 * GRAIN] == device.pread(GRAIN, 16 * GRAIN)
        for at, length in ((-GRAIN, GRAIN), (0, 4 * GRAIN), (3 * GRAIN, GRAIN), (1, GRAIN), (0, 0)):
            with pytest.raises(ValueError, match="do not lie within"):
                area.lay(at, length, device, 0)
        with pytest.raises(DeviceError, match="ends at"):
            area.lay(0, GRAIN, device, device.size)


def test_files_of_a_cache_give_views(demo_image: str) -> None:
    with open_image(demo_image) as image, PageCache(image, budget=MIB) as cache:
        found = [(file.view(), file.read(0, file.size)) for file in cache.open_all()]
    assert len(found) > 3
    for view, expected in found:
        assert view == expected
