"""Streams of page numbers: reading everything comes to the estimate, and equal keys have one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.errors import TraceError
from btrimg.filesystem.image import open_image
from btrimg.pagecache import streams
from btrimg.pagecache.comparing import Source
from btrimg.pagecache.estimate import estimate
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.pages import REFUSALS, KeyRuns
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.streams import Reads, Streams, everything, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.filerows import FileRows

RECIPE = """
[filesystem]
size = "128M"
[[do]]
subvolume = "/a"
[[do]]
file = "/a/plain"
random = "1M"
[[do]]
file = "/a/packed"
stamp = "packed"
size = "600K"
compress = "zstd"
[[do]]
file = "/a/sparse"
parts = [{stamp = "one", size = "8K"}, {hole = "1M"}, {stamp = "two", size = "12K"}, {prealloc = "40K"}]
[[do]]
file = "/a/inline"
text = "short"
[[do]]
file = "/a/moved"
parts = [{stamp = "head", size = "4K"}, {from = "/a/plain", from-offset = "64K", length = "512K"}]
[[do]]
file = "/a/twin"
parts = [{stamp = "packed", size = "600K"}]
[[do]]
reflink = "/a/clone"
from = "/a/plain"
[[do]]
snapshot = "/b"
of = "/a"
[[do]]
write = "/a/plain"
offset = "100K"
stamp = "new"
size = "8K"
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    path = str(tmp_path_factory.mktemp("streams") / "image")
    recipe = parse_recipe(RECIPE.encode(), "streams.toml")
    build_image(recipe.filesystem, recipe.operations(), [path], warn=pytest.fail)
    with open_image([path]) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(image: Image) -> FileRows:
    return of_image(image, named=True)


def reads(*accesses: tuple[int, int, int, int]) -> Reads:
    """Return reads by (reader, file, first page, pages)."""
    reader, file, page, pages = np.array(accesses, np.int64).reshape(-1, 4).T
    return Reads(np.zeros_like(file), reader, file, page, pages, np.zeros(len(file), np.bool_))


def file_of(rows: FileRows, path: str) -> int:
    return next(file for file in range(rows.files.rows) if rows.path_of(file) == path.encode())


DOMAINS = {"one": Domains(), "two": Domains({"a": [256]})}


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("domains", DOMAINS)
def test_reading_everything_is_the_estimate(rows: FileRows, domains: str, holes: bool) -> None:
    sharer = np.zeros(rows.files.rows, np.int64)
    wanted = estimate([Source(rows, sharer)], 1, DOMAINS[domains], holes=holes)
    made = Streams(rows, everything(rows), DOMAINS[domains], holes=holes, compare=False)
    assert made.holes == wanted.holes
    seen = set()
    for scheme in SCHEMES:
        found = made.numbered(scheme)
        assert len(found.stream.pages) == made.pages
        assert np.count_nonzero(found.stream.first) == wanted.of(scheme).resident
        refused = {REFUSALS[code]: int(found.refused[code]) for code in np.flatnonzero(found.refused).tolist() if code}
        assert refused == wanted.of(scheme).refused
        seen.add(wanted.of(scheme).resident)
    assert len(seen) >= 5  # schemes that all gave the same would prove little


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("domains", DOMAINS)
@settings(max_examples=15)
@given(data=st.data())
def test_pages_of_equal_keys_have_one_number(rows: FileRows, scheme: str, domains: str, data: Any) -> None:
    """Page by page, by a dictionary."""
    total = rows.files.pages
    access = st.integers(0, rows.files.rows - 1).flatmap(
        lambda file: st.tuples(st.integers(0, 1), st.just(file), st.integers(0, int(total[file]) - 1))
    )
    chosen = [
        (reader, file, page, min(length, int(total[file]) - page))
        for (reader, file, page), length in data.draw(st.lists(st.tuples(access, st.integers(1, 40)), max_size=8))
    ]
    made = Streams(rows, reads(*chosen), DOMAINS[domains], holes=True, compare=False)
    numbers = made.numbered(scheme).stream.pages.tolist()
    pages = [(reader, file, page + k) for reader, file, page, count in chosen for k in range(count)]
    assert len(numbers) == len(pages) == made.pages
    if scheme == "content":
        identity = made.extents.stream.pages.tolist()  # what is one page by extents is one by content
        assert all(
            number == other
            for number, same in zip(numbers, identity, strict=True)
            for other, its in zip(numbers, identity, strict=True)
            if same == its and domains == "one"
        )
        return
    keys = SCHEMES[scheme].keys(rows, DOMAINS[domains])
    known = dict[Any, int]()
    for number, (reader, file, page) in zip(numbers, pages, strict=True):
        key = key_of(keys, file, page)
        assert known.setdefault((key, reader, file) if scheme == "none" else key, number) == number
    assert len(set(known.values())) == len(known)


def key_of(keys: KeyRuns, file: int, page: int) -> tuple[int, int, int]:
    (run,) = np.flatnonzero((keys.file == file) & (keys.page <= page) & (page < keys.page + keys.pages)).tolist()
    return int(keys.space[run]), int(keys.unit[run]), int(keys.number[run]) + page - int(keys.page[run])


def test_equal_contents_are_one_page(rows: FileRows) -> None:
    packed, twin = file_of(rows, "/a/packed"), file_of(rows, "/a/twin")
    made = Streams(rows, reads((0, twin, 0, 150), (0, packed, 0, 150)), Domains(), holes=False, compare=False)
    assert len(set(made.extents.stream.pages.tolist())) == 300  # one is compressed, the other is not
    snapshot = file_of(rows, "/b/twin")
    made = Streams(rows, reads((0, twin, 3, 5), (0, snapshot, 4, 2)), Domains(), holes=False, compare=False)
    pages = made.numbered("content").stream.pages.tolist()
    assert pages[5:] == pages[1:3]


def test_holes_are_left_out_and_counted(rows: FileRows) -> None:
    sparse = file_of(rows, "/a/sparse")
    made = Streams(
        rows, reads((0, sparse, 1, 3), (0, sparse, 0, 271), (0, sparse, 50, 9)), Domains(), holes=False, compare=False
    )
    assert made.holes == 2 + 256 + 9
    assert made.pages == 1 + 15
    assert made.access.tolist() == [0, 1, 1, 1]
    assert made.reads.page.tolist() == [1, 0, 258, 261]
    assert made.reads.pages.tolist() == [1, 2, 3, 10]
    assert made.offset.tolist() == [0, 1, 3, 6]
    assert made.file.tolist() == [sparse] * 16


def test_readers_have_their_own_without_a_scheme(rows: FileRows) -> None:
    plain, clone = file_of(rows, "/a/plain"), file_of(rows, "/b/clone")
    made = Streams(
        rows,
        reads((1, plain, 0, 9), (2, plain, 0, 9), (1, plain, 0, 9), (1, clone, 0, 9)),
        Domains(),
        holes=False,
        compare=False,
    )
    counts = {scheme: np.count_nonzero(made.numbered(scheme).stream.first) for scheme in ("none", "inode", "extent")}
    assert counts == {"none": 27, "inode": 18, "extent": 9}


def test_pieces_are_lookups(rows: FileRows) -> None:
    plain = file_of(rows, "/a/plain")  # three extents: 8 KiB at 100 KiB are new
    made = Streams(
        rows, reads((0, plain, 0, 256), (0, plain, 0, 1), (0, plain, 24, 2)), Domains(), holes=False, compare=False
    )
    pieces = {scheme: made.numbered(scheme).pieces for scheme in ("none", "inode", "device", "extent", "content")}
    assert pieces == {"none": 3, "inode": 3, "device": 6, "extent": 6, "content": 6}


def test_accesses_are_looked_up_one_by_one(rows: FileRows) -> None:
    plain = file_of(rows, "/a/plain")
    chosen = reads((0, plain, 0, 2), (0, plain, 2, 2), (0, plain, 4, 2))
    made = Streams(rows, chosen, Domains(), holes=False, compare=False)
    assert made.accesses == made.numbered("inode").pieces == made.numbered("extent").pieces == 3


def test_too_many_pages_are_refused(rows: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAGES_MOST", 500)
    with pytest.raises(TraceError, match=r"^\d+ page accesses, more than 500: replay a part of the trace$"):
        Streams(rows, everything(rows), Domains(), holes=False, compare=False)


def test_numbers_are_dense_where_many_are_not_used(rows: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_FEW", 0)
    plain = file_of(rows, "/a/plain")
    made = Streams(rows, reads((0, plain, 200, 3), (0, plain, 201, 1)), Domains(), holes=False, compare=False)
    stream = made.numbered("inode").stream
    assert stream.pages.tolist() == [0, 1, 2, 1]
    assert stream.numbers == 3


def test_nothing_is_nothing(rows: FileRows) -> None:
    made = Streams(rows, reads(), Domains(), holes=False, compare=False)
    for scheme in SCHEMES:
        assert len(made.numbered(scheme).stream.pages) == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 20), st.integers(1, 8)), max_size=8))
def test_numbers_of_overlapping_runs(runs: list[tuple[int, int, int, int]]) -> None:
    space, unit, number, pages = np.array(runs, np.int64).reshape(-1, 4).T
    none = np.zeros_like(space)
    first, total = numbers_of(KeyRuns(none, none, pages, space, unit, number, none.astype(np.uint8), none))
    known = dict[tuple[int, int, int], int]()
    for start, run in zip(first.tolist(), runs, strict=True):
        for k in range(run[3]):
            assert known.setdefault((run[0], run[1], run[2] + k), start + k) == start + k
    assert sorted(known.values()) == list(range(total))
