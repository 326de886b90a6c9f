"""Estimates, censuses and what the posted patches get wrong, against pages counted one by one and bytes read."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.pagekeys import PAGE, all_pages, pages_of, regular_files
from support.program import btrimg

from btrimg.filesystem.image import open_image
from btrimg.filesystem.walk import walk
from btrimg.ondisk.csum import crc32c
from btrimg.pagecache import census, comparing
from btrimg.pagecache.comparing import Source
from btrimg.pagecache.estimate import estimate
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.posted import DEFECTS, examine
from btrimg.pagecache.schemes import SCHEMES, Domains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.estimate import Estimate


@pytest.fixture(scope="module")
def demo(demo_image: str) -> Iterator[Image]:
    with open_image(demo_image) as image:
        yield image


def by_subvolume(image: Image, domains: Domains | None = None, **how: Any) -> Estimate:
    rows = of_image(image)
    ids, sharer = np.unique(rows.files.subvolume, return_inverse=True)
    return estimate([Source(rows, sharer)], len(ids), domains or Domains(), **how)


def curve_of(image: Image, scheme: str, domain: Callable[[int], Any] = lambda _: 0) -> list[int]:
    """Return how many different pages there are in the first subvolume, in the first two, …"""
    known = all_pages(image, scheme, domain)
    ids = sorted({inode.subvolume.id for inode in regular_files(image)})
    return [len({page.identity for where, page in known.items() if where[0] <= last}) for last in ids]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_estimate_is_pages_counted_one_by_one(demo: Image, in_place: str, scheme: str) -> None:
    with open_image(in_place) as other:
        for image in (demo, other):
            found = by_subvolume(image).of(scheme)
            assert list(found.curve) == curve_of(image, scheme)
            refused: dict[str, int] = {}
            for page in all_pages(image, scheme).values():
                if page.refusal:
                    refused[page.refusal] = refused.get(page.refusal, 0) + 1
            assert found.refused == refused


def test_compressed_extents_of_equal_content_are_compared(in_place: str) -> None:
    with open_image(in_place) as image:
        found = by_subvolume(image)
        assert found.equal_sums == (75, True, 0)
        assert found.of("extent").resident - found.of("content").resident == 75 - 3 * 16
        rows = of_image(image, [image.open(path) for path in (b"/middle", b"/behind-it", b"/words", b"/words-again")])
        files = estimate([Source(rows, rows.files.top)], 4, Domains())
        assert files.of("content").curve == (8, 12, 75, 75)


def test_an_estimate_keeps_domains_apart(demo: Image) -> None:
    found = by_subvolume(demo, Domains({"both": [256, 5]}))
    for scheme in ("device", "extent", "same-offset", "whole-file", "content"):
        assert list(found.of(scheme).curve) == curve_of(demo, scheme, lambda number: number == 257)
        assert found.of(scheme).resident > by_subvolume(demo).of(scheme).resident


def test_holes_count_where_they_are_asked_for(demo: Image) -> None:
    holes = sum(-(-inode.item.size // PAGE) - len(list(pages_of(inode))) for inode in regular_files(demo))
    without, counted = by_subvolume(demo), by_subvolume(demo, holes=True)
    assert without.holes == holes > 0
    assert counted.holes == 0
    for scheme in set(SCHEMES) - {"whole-file"}:
        assert counted.of(scheme).resident == without.of(scheme).resident + holes
    assert counted.of("extent").refused["hole"] == holes


def test_pages_belong_to_their_sharers(demo: Image) -> None:
    assert by_subvolume(demo).shares is None
    found = by_subvolume(demo, attributed=True)
    assert found.shares
    users: dict[Any, set[int]] = {}
    for where, page in all_pages(demo, "extent").items():
        users.setdefault(page.identity, set()).add(where[0])
    ids = (5, 256, 257)
    assert found.shares.used == [sum(number in each for each in users.values()) for number in ids]
    assert found.shares.freed == [sum(each == {number} for each in users.values()) for number in ids]
    assert sum(found.shares.proportional) == pytest.approx(found.of("extent").resident)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_census_tells_what_becomes_of_every_page(demo: Image, scheme: str) -> None:
    found = census.take(of_image(demo), scheme, Domains())
    known = all_pages(demo, scheme).values()
    users: dict[Any, int] = {}
    for page in known:
        users[page.identity] = users.get(page.identity, 0) + 1
    shared = sum(users[page.identity] > 1 for page in known)
    holes = found.pages - len(known)
    assert holes == by_subvolume(demo).holes
    if scheme in ("none", "inode"):
        assert (found.shared, found.alone, found.refused) == (0, len(known) + holes, {})
    elif scheme != "whole-file":  # there a hole is shared as the rest of the file is
        assert found.shared == shared
        assert found.alone == sum(users[page.identity] == 1 and not page.refusal for page in known)
        assert found.refused["hole"] == holes
        assert found.resident == len(users) + holes
    assert found.shared + found.alone + sum(found.refused.values()) == found.pages


@pytest.fixture(scope="module")
def in_place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an image whose first chunks lie at their logical addresses."""
    directory = tmp_path_factory.mktemp("in-place")
    (directory / "in-place.toml").write_text("""
        do = [
            {file = "/plain", random = "1M"},
            {file = "/words", pattern = "again ", size = "300K", compress = "zlib"},
            {file = "/kept", parts = [{prealloc = "64K"}]},
            {file = "/tiny", text = "tiny"},
            {reflink = "/same", from = "/plain"},
            {file = "/unsummed", random = "64K", nodatasum = true},
            {reflink = "/unsummed-too", from = "/unsummed"},
            {file = "/words-again", pattern = "again ", size = "300K", compress = "zlib"},
            {reflink = "/middle", from = "/words", from-offset = "16K", length = "32K"},
            {reflink = "/behind-it", from = "/words-again", from-offset = "48K", length = "16K"},
            {file = "/sparse", parts = [{hole = "10000"}]},
            {snapshot = "/later", of = "/"},
        ]
    """)
    image = str(directory / "in-place.img")
    done = btrimg("build", "--mixed", "--metadata", "single", directory / "in-place.toml", "-o", image)
    assert done.returncode == 0, done.stderr
    return image


@pytest.mark.parametrize("which", ["demo", "in place"])
def test_the_posted_patches_read_wrong_what_arithmetic_says(which: str, demo_image: str, in_place: str) -> None:
    path = demo_image if which == "demo" else in_place
    with open_image(path) as image, open(path, "rb") as device:
        rows = of_image(image)
        found = examine(rows, Domains())
        inodes = {(inode.subvolume.id, inode.ino): inode for inode in regular_files(image)}
        pages = dict.fromkeys((each.name for each in DEFECTS), 0)
        for at in np.flatnonzero(found.keys.refusal == 0).tolist():
            file, defect = int(found.keys.file[at]), DEFECTS[found.defect[at]]
            inode = inodes[int(rows.files.subvolume[file]), int(rows.files.inode[file])]
            for step in range(int(found.keys.pages[at])):
                data = inode.read((int(found.keys.page[at]) + step) * PAGE, PAGE)
                device.seek(min((int(found.keys.number[at]) + step) * PAGE, os.path.getsize(path)))
                same = device.read(len(data)) == data
                pages[defect.name] += 1
                # Where the page and what is in its place are zeros, nobody sees the difference.
                assert same != defect.wrong or (defect.wrong and not any(data)), (inode.path, step, defect.name)
        wrong = {each.name: pages[each.name] for each in DEFECTS if each.wrong}
        assert found.pages_by_defect() == wrong
        if which == "in place":
            each = {"none": 512 + 32, "untranslated": 0, "compressed": 150 + 12, "inline": 1, "prealloc": 16}
            assert pages == {name: 2 * count for name, count in each.items()}
            assert found.unchecked_pages == 2 * (512 + 150 + 12)
        else:
            assert pages["none"] == 0
            assert min(wrong.values()) > 0


def forged(wanted: int, prefix: bytes) -> bytes:
    """Return *prefix* and four bytes that give it a CRC-32C: the checksum is linear in them."""
    base = crc32c(prefix + bytes(4))
    rows = [(crc32c(prefix + (1 << bit).to_bytes(4, "little")) ^ base, 1 << bit) for bit in range(32)]
    rest, tail = wanted ^ base, 0
    for bit in range(32):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [(row[0] ^ pivot[0], row[1] ^ pivot[1]) if row[0] >> bit & 1 else row for row in rows if row != pivot]
        if rest >> bit & 1:
            rest, tail = rest ^ pivot[0], tail ^ pivot[1]
    assert rest == 0
    return prefix + tail.to_bytes(4, "little")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Make two images: of files that are equal, and that only have equal checksums."""
    directory = tmp_path_factory.mktemp("twins")
    rng = random.Random(5)
    data = rng.randbytes(8 * PAGE)
    blocks = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    other = b"".join(forged(crc32c(block), rng.randbytes(PAGE - 4)) for block in blocks)
    for name, contents in (("tree-1", (data, other, data)), ("tree-2", (data, other[:PAGE]))):
        (directory / name).mkdir()
        for number, content in enumerate(contents):
            (directory / name / f"file-{number}").write_bytes(content)
    paths = []
    for name in ("tree-1", "tree-2"):
        paths.append(str(directory / f"{name}.img"))
        done = btrimg("build", "--from-dir", directory / name, "-o", paths[-1])
        assert done.returncode == 0, done.stderr
    return paths[0], paths[1]


def test_equal_checksums_are_no_equal_pages(twins: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    with open_image(twins[0]) as image:
        found = by_subvolume(image, done=lambda places, size: read.append(size))
        assert found.of("none").resident == 24
        assert found.of("extent").resident == 24
        assert found.of("content").resident == 16
        assert found.equal_sums == (16, True, 8)
        assert read == [PAGE] * 24
        monkeypatch.setattr(comparing, "FEW", 15)
        trusting = by_subvolume(image)
        assert trusting.of("content").resident == 8
        assert trusting.equal_sums == (16, False, 0)
        assert by_subvolume(image, compare=True) == found
        monkeypatch.undo()
    with open_image(twins[1]) as image:
        pair = by_subvolume(image)  # one page of each has a twin
        assert (pair.of("content").resident, pair.equal_sums) == (9, (1, True, 1))


def test_images_share_by_content_only(twins: tuple[str, str]) -> None:
    with open_image(twins[0]) as one, open_image(twins[1]) as two:
        files = [of_image(image) for image in (one, two)]
        sources = [Source(rows, np.full(rows.files.rows, number)) for number, rows in enumerate(files)]
        found = estimate(sources, 2, Domains())
        assert found.files == 5
        for scheme in set(SCHEMES) - {"content"}:
            assert found.of(scheme).curve == (24, 33), scheme
        assert found.of("content").curve == (16, 16)
        assert found.equal_sums == (25, True, 8)
        swapped = [Source(source.rows, 1 - source.sharer) for source in sources]
        assert estimate(swapped, 2, Domains()).of("content").curve == (9, 16)


def test_files_below_paths_are_those_of_a_walk(demo: Image) -> None:
    top = demo.open(b"/")
    entries = [inode for _, inode in top.entries()]
    for path in entries:
        rows = of_image(demo, [path], named=True)
        found = set(zip(rows.files.subvolume.tolist(), rows.files.inode.tolist(), strict=True))
        inodes = list(walk(path)) if path.is_directory else [path]
        expected = {
            (inode.subvolume.id, inode.ino) for inode in inodes if not inode.is_placeholder and inode.is_regular
        }
        assert found == expected
        names = {inode.path for inode in inodes}
        assert all(rows.path_of(file) in names for file in rows.file.tolist())
    whole = of_image(demo, [*reversed(entries), top])
    assert whole.files.rows == of_image(demo).files.rows
    assert set(whole.files.top.tolist()) <= set(range(len(entries) + 1))
    first = of_image(demo, [top, *entries])
    assert set(first.files.top.tolist()) == {0}
