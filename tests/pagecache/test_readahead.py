"""Readahead: windows by hand, and what holds for all reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btrimg.pagecache import readahead
from btrimg.pagecache.readahead import SPACES, Fetched, first_size, next_size, read_ahead
from btrimg.pagecache.schemes import Domains
from btrimg.pagecache.streams import Reads, Streams, everything
from pagecache.test_streams import file_of, image, reads, rows  # noqa: F401

if TYPE_CHECKING:
    from btrimg.pagecache.filerows import FileRows


def fetched(rows: FileRows, space: str, accesses: Reads) -> Fetched:  # noqa: F811
    return read_ahead(Streams(rows, accesses, Domains(), holes=False, compare=False), space)


def test_windows_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures that get_init_ra_size and get_next_ra_size of mm/readahead.c give for 1024 pages, and for 32."""
    assert [first_size(asked) for asked in (1, 2, 3, 5, 9, 32, 33, 100, 256, 257)] == (
        [4, 8, 16, 32, 64, 128, 128, 256, 512, 1024]
    )
    assert [next_size(size) for size in (1, 4, 16, 63, 64, 512, 513, 1024)] == [4, 16, 64, 252, 128, 1024, 1024, 1024]
    monkeypatch.setattr(readahead, "WINDOW", 32)
    assert [first_size(asked) for asked in (1, 2, 3, 4, 5, 8, 9, 32, 100)] == [4, 4, 8, 8, 16, 16, 32, 32, 32]
    assert [next_size(size) for size in (1, 2, 4, 8, 16, 32)] == [4, 4, 8, 16, 32, 32]


def test_reading_in_order(rows: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Page by page: windows of 4, 8, 16, 32, 32 … pages, each read when the one before is entered."""
    monkeypatch.setattr(readahead, "WINDOW", 32)
    moved = file_of(rows, "/a/moved")  # of one page, then of 128 of another file
    twin = file_of(rows, "/a/twin")  # 150 pages, one extent
    assert fetched(rows, "file", reads(*((0, twin, page, 1) for page in range(150)))) == Fetched("file", 1, 149, 0, 0)
    assert fetched(rows, "file", reads(*((0, twin, page, 1) for page in range(31)))) == Fetched("file", 1, 91, 61, 0)
    assert fetched(rows, "file", reads((0, twin, 0, 1))) == Fetched("file", 1, 3, 3, 0)
    # A window that all is asked of is entered at once; one of which more was asked is no longer.
    assert fetched(rows, "file", reads((0, twin, 0, 32))) == Fetched("file", 32, 32, 32, 0)
    assert fetched(rows, "file", reads((0, twin, 0, 40))) == Fetched("file", 40, 32, 32, 0)
    # Two readers have windows of their own, and one memory.
    both = reads(*((page % 2, twin, page // 2, 1) for page in range(300)))
    assert fetched(rows, "file", both) == Fetched("file", 1, 149, 0, 0)
    # Along extents, each begins anew: there is nothing to be read ahead of the first page.
    assert fetched(rows, "extent", reads((0, moved, 0, 1))) == Fetched("extent", 1, 0, 0, 0)
    assert fetched(rows, "file", reads((0, moved, 0, 1))) == Fetched("file", 1, 3, 3, 0)


def test_reading_from_anywhere(rows: FileRows) -> None:  # noqa: F811
    twin = file_of(rows, "/a/twin")
    apart = reads(*((0, twin, page, 2) for page in (140, 100, 20, 60, 22)))
    assert fetched(rows, "file", apart) == Fetched("file", 10, 0, 0, 0)
    # What follows the last read opens a window, also in the middle.
    assert fetched(rows, "file", reads((0, twin, 50, 1), (0, twin, 51, 1))) == Fetched("file", 2, 3, 3, 0)


def test_a_device_goes_on_behind_the_file(rows: FileRows) -> None:  # noqa: F811
    """Behind the last extent of a file, others follow on the device; along the file there is nothing."""
    twin = file_of(rows, "/a/twin")
    whole = reads(*((0, twin, page, 1) for page in range(150)))
    got = fetched(rows, "device", whole)
    assert got.asked == 1
    assert got.ahead > 149
    assert got.foreign == got.wasted == got.ahead - 149 > 0


def test_a_file_is_no_stranger_to_itself(rows: FileRows) -> None:  # noqa: F811
    """Extents of one file that lie beside each other on the device are not foreign, even out of the file's order."""
    sparse = file_of(rows, "/a/sparse")
    got = fetched(rows, "device", reads((0, sparse, 0, 1), (0, sparse, 1, 1)))
    assert got.asked + got.ahead >= 4
    assert got.foreign <= got.ahead - 1


@pytest.mark.parametrize("space", SPACES)
@settings(max_examples=40)
@given(
    accesses=st.lists(
        st.tuples(
            st.integers(0, 1), st.sampled_from(["plain", "clone", "moved", "sparse", "packed"]), st.integers(0, 149)
        ),
        max_size=25,
    ),
    length=st.integers(1, 40),
)
def test_what_is_read_was_brought_in_once(
    rows: FileRows,  # noqa: F811
    space: str,
    accesses: list[tuple[int, str, int]],
    length: int,
) -> None:
    total = rows.files.pages
    files = [(reader, file_of(rows, f"/a/{name}"), page) for reader, name, page in accesses]
    chosen = reads(*((r, f, p, min(length, int(total[f]) - p)) for r, f, p in files if p < total[f]))
    streams = Streams(rows, chosen, Domains(), holes=False, compare=False)
    got = read_ahead(streams, space)
    scheme = {"file": "inode", "device": "device", "extent": "extent"}[space]
    different = int(np.count_nonzero(streams.numbered(scheme).stream.first))
    assert got.asked + got.ahead - got.wasted == different
    assert 0 <= got.wasted <= got.ahead
    assert 0 <= got.foreign <= got.ahead
    assert got.foreign == 0 or space == "device"


def test_reading_everything_wastes_nothing_along_files(rows: FileRows) -> None:  # noqa: F811
    streams = Streams(rows, everything(rows), Domains(), holes=True, compare=False)
    got = {space: read_ahead(streams, space) for space in SPACES}
    assert got["file"].wasted == got["extent"].wasted == 0
    assert got["device"].wasted > 0
