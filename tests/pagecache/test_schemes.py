"""Keys of pages against tuples that are put together page by page, on images that the kernel wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.matrix import name_of, options_of, variants
from support.pagekeys import all_pages, regular_files
from support.program import btrimg

from btrimg.filesystem.columns import HOLE, INLINE, REGULAR
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import InodeFlag
from btrimg.pagecache import schemes
from btrimg.pagecache.filerows import of_image, of_inode
from btrimg.pagecache.pages import REFUSALS
from btrimg.pagecache.schemes import SCHEMES, Domains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import KernelImage

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import KeyRuns

Key = tuple[int, int, int]
Where = tuple[int, int, int]

PICKED = (("dup", "xxhash"), ("raid10", "crc32c"))
#: Two copies on one device, and stripes on several.
CELLS = [next(cell for cell in variants() if cell[0] == profile and cell[2] == csum) for profile, csum in PICKED]
RECIPE = """
do = [
    {file = "/one", random = "1M"},
    {file = "/two", pattern = "the very same 32 bytes as always", size = "768K", compress = "zstd"},
    {reflink = "/part", from = "/one", from-offset = "128K", length = "256K", offset = "64K"},
    {file = "/tail", random = 200123},
    {file = "/small", text = "a few bytes"},
    {reflink = "/longer", from = "/tail"},
    {truncate = "/longer", size = 210000},
    {snapshot = "/again", of = "/"},
]
"""


@pytest.fixture(scope="module")
def demo(demo_image: str) -> Iterator[Image]:
    with open_image(demo_image) as image:
        yield image


def expanded(rows: FileRows, keys: KeyRuns) -> dict[Where, tuple[str, Key]]:
    """Return the key of every page that is not of a hole, and why it is refused."""
    found: dict[Where, tuple[str, Key]] = {}
    for at in range(len(keys.file)):
        row = int(keys.row[at])
        if row >= 0 and rows.extents.kind[row] == HOLE:
            continue
        file = int(keys.file[at])
        place = int(rows.files.subvolume[file]), int(rows.files.inode[file])
        space, unit, number = int(keys.space[at]), int(keys.unit[at]), int(keys.number[at])
        for page in range(int(keys.pages[at])):
            where = (*place, int(keys.page[at]) + page)
            assert where not in found
            found[where] = REFUSALS[keys.refusal[at]], (space, unit, number + page)
    return found


def compare(image: Image, scheme: str, domains: Domains, domain: Callable[[int], Any]) -> tuple[int, int]:
    """Hold all keys against the reference; return how many pages there are, and how many different ones."""
    rows = of_image(image)
    found = expanded(rows, SCHEMES[scheme].keys(rows, domains))
    known = all_pages(image, scheme, domain)
    assert found.keys() == known.keys()
    assert {where: refusal for where, (refusal, _) in found.items()} == {
        where: refusal for where, (refusal, _) in known.items()
    }
    keys: dict[Any, Key] = {}
    for where, (_, identity) in known.items():
        assert keys.setdefault(identity, found[where][1]) == found[where][1], (where, identity)
    assert len(set(keys.values())) == len(keys)  # nor have two pages one key
    return len(known), len(keys)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_keys_are_equal_where_pages_are_one(demo: Image, scheme: str) -> None:
    pages, different = compare(demo, scheme, Domains(), lambda _: 0)
    shares = scheme not in ("none", "inode")
    assert different < pages if shares else different == pages


@pytest.mark.parametrize("scheme", ["device-posted", "device", "extent", "same-offset", "whole-file", "content"])
def test_domains_keep_subvolumes_apart(demo: Image, scheme: str) -> None:
    ids = [subvolume.id for subvolume in demo.subvolumes()]
    assert ids == [5, 256, 257]
    together, apart = compare(demo, scheme, Domains({"a": [256, 257]}), lambda number: number == 5)
    assert compare(demo, scheme, Domains({"a": [257]}), lambda number: number)[1] > apart
    assert compare(demo, scheme, Domains({"a": [5], "b": [256]}), lambda number: number)[0] == together


@pytest.mark.kernel
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_keys_on_profiles_and_checksums(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**options_of(cell)).devices) as image:
        for scheme in SCHEMES:
            pages, different = compare(image, scheme, Domains(), lambda _: 0)
            assert pages > 2000
            assert different <= pages
            several = len(image.volume.devices) > 1
            assert (different == pages) == (scheme in ("none", "inode") or (scheme == "device-posted" and several))


@pytest.fixture(scope="module")
def large_sectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("sectors")
    (directory / "sectors.toml").write_text(RECIPE)
    image = str(directory / "sectors.img")
    done = btrimg("build", "--sectorsize", "64K", "--csum", "blake2", directory / "sectors.toml", "-o", image)
    assert done.returncode == 0, done.stderr
    return image


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sector_of_64_kib_has_sixteen_pages(large_sectors: str, scheme: str) -> None:
    with open_image(large_sectors) as image:
        pages, different = compare(image, scheme, Domains(), lambda _: 0)
        assert pages == 2 * (256 + 192 + 64 + 49 + 1 + 52)  # by growing within a sector, no extent was made
        inline = 2  # is there twice
        expected = {
            "none": pages,
            "inode": pages,
            "device": 256 + 2 * 192 + 52 + inline,
            "extent": 256 + 192 + 52 + inline,
            "same-offset": 256 + 192 + 64 + 52 + inline,
            "whole-file": 256 + 192 + 64 + 49 + 52 + inline,
            "content": 256 + 32 + 52 + inline,  # all extents of the words are equal
        }
        assert different == expected.get(scheme, different)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_alone_has_the_keys_that_it_has_among_all(demo: Image, scheme: str) -> None:
    rows = of_image(demo)
    every = expanded(rows, SCHEMES[scheme].keys(rows, Domains()))
    for inode in regular_files(demo):
        alone = of_inode(inode)
        found = expanded(alone, SCHEMES[scheme].keys(alone, Domains()))
        assert found == {where: key for where, key in every.items() if where[:2] == (inode.subvolume.id, inode.ino)}
        assert alone.files.size.tolist() == [inode.item.size]


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"whole-file"}))
def test_runs_may_be_cut_anywhere(demo: Image, large_sectors: str, scheme: str) -> None:
    rng = np.random.default_rng(7)
    with open_image(large_sectors) as large:
        for image in (demo, large):
            rows = of_image(image)
            head = np.minimum(rng.integers(1, 20, len(rows.runs.file)), rows.runs.pages)
            cut = schemes._cut(rows, head, 7)
            assert len(cut.runs.file) > 2 * len(rows.runs.file)
            whole, pieces = (expanded(each, SCHEMES[scheme].keys(each, Domains())) for each in (rows, cut))
            assert pieces == whole


def test_keys_say_what_they_stand_for(demo: Image) -> None:
    rows = of_image(demo)
    keys = SCHEMES["extent"].keys(rows, Domains())
    kind = rows.extents.kind[keys.row]
    taken = keys.refusal == 0
    assert (keys.unit[taken] == rows.extents.generation[keys.row[taken]].view(np.int64)).all()
    plain = taken & (kind == REGULAR)
    distance = (keys.page[plain] << 12) - rows.extents.offset[keys.row[plain]]
    assert (keys.number[plain] << 12 == rows.extents.logical[keys.row[plain]] + distance).all()
    posted = SCHEMES["device-posted"].keys(rows, Domains())
    inline = rows.extents.kind[posted.row] == INLINE
    assert posted.number[inline].tolist() == [(2**64 - 2) >> 12] * 2
    assert (keys.space[~taken] >> 8 == rows.files.subvolume[keys.file[~taken]]).all()
    assert (keys.unit[~taken] == rows.files.inode[keys.file[~taken]]).all()


def test_files_without_checksums_stay_in_long_runs(demo: Image) -> None:
    rows = of_image(demo)
    keys = SCHEMES["content"].keys(rows, Domains())
    unsummed = rows.files.flags & InodeFlag.NODATASUM != 0
    refused = keys.refusal == REFUSALS.index("no checksum")
    assert unsummed[keys.file[refused]].all()
    assert int(refused.sum()) == int(unsummed[rows.runs.file].sum()) == 1
