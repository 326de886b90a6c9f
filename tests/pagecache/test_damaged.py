"""Files whose extents make no sense: their pages keep to themselves, each in one run, and alone as in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.program import btrimg

from btrimg.errors import UnsupportedError
from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.filesystem.image import open_image
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.filerows import of_image, of_inode
from btrimg.pagecache.pages import PAGE, REFUSALS, Place
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.filerows import FileRows

EDITS = (
    "/files/compressed.txt:INODE_ITEM/size=18446744073709551615",
    "/vm/part.raw:EXTENT_DATA.65536/offset=4097",  # pages lie across two of the disk
    "/vm/disk.raw:EXTENT_DATA.0/num_bytes=1232896",  # reaches into the next one
    "/files/nocow.raw:EXTENT_DATA.0/num_bytes=5000",  # a hole begins inside of a page
    "/files/sparse.raw:EXTENT_DATA.0/disk_bytenr=1099511627776",  # in no chunk
    "/vm-monday/part.raw:EXTENT_DATA.0/encryption=1",  # is skipped
    "/vm-monday/clone.raw:EXTENT_DATA.0/disk_num_bytes=9223372036854775808",  # is skipped in bulk only
)


@pytest.fixture(scope="module")
def damaged(demo_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    path = str(tmp_path_factory.mktemp("damaged") / "damaged.img")
    done = btrimg("corrupt", demo_image, *EDITS, "--output", path)
    assert done.returncode == 0, done.stderr
    with open_image(path, warn=lambda _: None) as image:
        yield image


def runs_of(rows: FileRows, inode: Inode, scheme: str) -> list[tuple[int, int, str]]:
    """Return (first page, pages, refusal) of the runs of one file."""
    keys = SCHEMES[scheme].keys(rows, Domains())
    (file,) = np.flatnonzero((rows.files.subvolume == inode.subvolume.id) & (rows.files.inode == inode.ino))
    here = keys.file == file
    refusals = [REFUSALS[code] for code in keys.refusal[here]]
    return list(zip(keys.page[here].tolist(), keys.pages[here].tolist(), refusals, strict=True))


@pytest.mark.parametrize(
    ("path", "scheme", "runs"),
    [
        (b"/files/compressed.txt", "extent", [(0, -(-OFFSET_MAX // PAGE), "damaged")]),
        (b"/vm/part.raw", "extent", [(0, 16, ""), (16, 128, "unaligned")]),
        (b"/vm/disk.raw", "extent", [(0, 1024, "damaged")]),
        (b"/vm/clone.raw", "extent", [(0, 1024, "")]),
        (b"/files/nocow.raw", "extent", [(0, 1, "nodatacow"), (1, 1, "unaligned"), (2, 6, "hole")]),
        (b"/files/sparse.raw", "extent", [(0, 2, ""), (2, 254, "hole")]),
        (b"/files/sparse.raw", "device", [(0, 2, "damaged"), (2, 254, "hole")]),
        (b"/files/sparse.raw", "content", [(0, 1, "no checksum"), (1, 1, "no checksum"), (2, 254, "hole")]),
    ],
)
def test_pages_that_make_no_sense_are_not_shared(
    damaged: Image, path: bytes, scheme: str, runs: list[tuple[int, int, str]]
) -> None:
    rows, inode = of_image(damaged), damaged.open(path)
    assert runs_of(rows, inode, scheme) == runs
    assert runs_of(of_inode(inode), inode, scheme) == runs
    assert not rows.complete


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_page_is_in_one_run(damaged: Image, scheme: str) -> None:
    rows = of_image(damaged)
    keys = SCHEMES[scheme].keys(rows, Domains())
    end = keys.page + keys.pages
    first = np.append(True, keys.file[1:] != keys.file[:-1])
    assert (keys.page == np.where(first, 0, np.append(0, end)[:-1])).all()
    last = np.append(first[1:], True)
    assert (end[last] == rows.files.pages[keys.file[last]]).all()


@pytest.mark.parametrize("scheme", ["extent", "content"])
def test_what_is_lost_is_no_hole(damaged: Image, scheme: str) -> None:
    """An item that makes no sense leaves a gap; its bytes must not be read as zeros, in bulk either."""
    inode = damaged.open(b"/vm-monday/part.raw")
    place = Place(inode.subvolume.id, inode.ino)
    for rows in (of_image(damaged), of_inode(inode)):
        assert not rows.complete
        assert runs_of(rows, inode, "extent") == [(0, 144, "damaged")]
    with PageCache(damaged, budget=300 * PAGE, scheme=scheme) as cache:
        (file,) = (file for file in cache.open_all() if file.place == place)
        with pytest.raises(UnsupportedError):
            file.read(8 * PAGE, PAGE)
        assert file.read(16 * PAGE, PAGE) == inode.read(16 * PAGE, PAGE)
        errors = {piece.offset // PAGE: piece.error for piece in cache.read_all() if piece.place == place}
        assert {page for page, error in errors.items() if error} == set(range(16))
        assert len(errors) > 16
    clone = damaged.open(b"/vm-monday/clone.raw")
    assert runs_of(of_image(damaged), clone, "extent") == [(0, 1024, "damaged")]
    assert of_inode(damaged.open(b"/vm-monday/disk.raw")).complete


def test_views_show_what_is_read(damaged: Image) -> None:
    """An extent item that ends inside of a sector shows no more of it."""
    inode = damaged.open(b"/files/nocow.raw")
    data = inode.read(0, inode.item.size)
    assert data[5000:8192] == bytes(3192)
    assert Views(damaged).view(inode) == data
