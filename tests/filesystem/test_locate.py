"""The way back: what stands at a byte of a device, against what ``resolve`` and ``extents`` say of every file."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest
from support.broken import broken
from support.forge import edit_leaf, write_block
from support.images import copy_sparse

from btrimg.errors import NotFoundError
from btrimg.filesystem.columns import COMPRESSED, KINDS
from btrimg.filesystem.image import open_image
from btrimg.filesystem.locate import Locator, Piece
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, TreeId
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from support.images import KernelImage

    from btrimg.filesystem.columns import ExtentColumns
    from btrimg.filesystem.image import Image


IMAGES: dict[str, dict[str, Any]] = {
    "dup": {"profile": "dup", "nodesize": 4096, "csum": "xxhash", "compression": "zstd"},
    "raid0": {"profile": "raid0", "metadata_profile": "raid1", "devices": 5},
    "raid1c3": {"profile": "raid1c3", "nodesize": 65536, "csum": "blake2", "compression": "lzo", "size": 512 * MIB},
    "raid10": {"profile": "raid10"},
    "raid5": {"profile": "raid5"},
    "raid6": {"profile": "raid6"},
    "mixed": {"mkfs_options": ("--mixed",), "nodesize": 4096, "profile": "dup"},
}


def _fail(message: str) -> None:
    raise AssertionError(message)


def sharers_by_extent(rows: ExtentColumns) -> dict[int, list[tuple[int, int, int, int, int, int]]]:
    """Return (logical, end, subvolume, inode, offset, kind) of all file extents, by their extent."""
    found = defaultdict(list)
    for at in range(rows.rows):
        extent, logical = int(rows.extent_logical[at]), int(rows.logical[at])
        length = int(rows.extent_length[at] if rows.kind[at] == COMPRESSED else rows.length[at])
        file = (int(rows.subvolume[at]), int(rows.inode[at]), int(rows.offset[at]), int(rows.kind[at]))
        if extent:
            found[extent].append((logical, logical + length, *file))
    return found


def expected_sharers(piece: Piece, users: list[tuple[int, int, int, int, int, int]]) -> set[tuple[int, int, int, str]]:
    """Return (subvolume, inode, offset of the piece's first byte, kind) of the file extents that cover *piece*."""
    start = piece.logical or 0
    covering = [user for user in users if user[0] <= start and start + piece.length <= user[1]]
    touching = [user for user in users if user[0] < start + piece.length and start < user[1]]
    assert covering == touching, "a piece ends where its users change"
    return {
        (subvolume, inode, offset + (0 if kind == COMPRESSED else start - logical), KINDS[kind])
        for logical, _, subvolume, inode, offset, kind in covering
    }


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES.values(), ids=IMAGES)
def test_every_copy_of_every_file_leads_back_to_all_that_share_it(
    options: dict[str, Any], kernel_image: Callable[..., KernelImage]
) -> None:
    with open_image(kernel_image(**options).devices, warn=_fail) as image:
        users, rows, locator = sharers_by_extent(image.extents()), image.extents(pieces=True), Locator(image)
        seen = 0
        for at in range(rows.rows):
            compressed = rows.kind[at] == COMPRESSED
            length = min(int(rows.extent_length[at]), 4096) if compressed else int(rows.length[at])
            for copy in range(int(rows.copies[at])):
                devid, physical = int(rows.devid[copy, at]), int(rows.physical[copy, at])
                for piece in locator.on_device(devid, physical, length):
                    assert piece.extent
                    assert piece.logical == rows.logical[at] + (piece.physical or 0) - physical
                    found = {(*sharer[:3], sharer.kind) for sharer in piece.sharers}
                    assert found == expected_sharers(piece, users[piece.extent.logical])
                    skipped = 0 if compressed else (piece.physical or 0) - physical
                    own = (rows.subvolume[at], rows.inode[at], rows.offset[at] + skipped, KINDS[rows.kind[at]])
                    assert own in found
                    assert [state.csum for state in piece.copies] in (["ok"], ["none"])
                    seen += 1
        assert seen > 300


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES.values(), ids=IMAGES)
def test_every_byte_of_every_device_is_told(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**options).devices, warn=_fail) as image:
        locator = Locator(image)
        total: Counter[str] = Counter()
        copies: Counter[int] = Counter()  # bytes of an extent on all devices, by its logical address
        lengths: dict[int, int] = {}
        for devid, device in image.volume.devices.items():
            at = 0
            for piece in locator.on_device(devid, 0, device.size):
                assert piece.physical == at
                assert {state.csum for state in piece.copies} <= {"ok", "none"}
                total[piece.kind] += piece.length
                at += piece.length
                if piece.extent:
                    copies[piece.extent.logical] += piece.length
                    lengths[piece.extent.logical] = (
                        piece.extent.length * image.volume.chunk_map.find(piece.extent.logical).profile.copies
                    )
            assert at == device.size
        assert copies == lengths
        assert total["superblock"] == SUPERBLOCK_SIZE * 2 * len(image.volume.devices)
        assert total["reserved"] == (MIB - SUPERBLOCK_SIZE) * len(image.volume.devices)
        assert (total["parity"] > 0) == any(chunk.profile.parity for chunk in image.volume.chunk_map)


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("profile", ["raid10", "raid6"])
def test_a_missing_device_is_told_of_and_its_copies_are_missing(
    profile: str, kernel_image: Callable[..., KernelImage]
) -> None:
    devices = kernel_image(profile=profile).devices
    with open_image(devices, warn=_fail) as image:
        lost = sorted(image.volume.devices)[1]
        size = image.volume.devices[lost].size
        expected = list(Locator(image).on_device(lost, 0, size))
    with open_image([path for number, path in enumerate(devices) if number != 1], warn=lambda _: None) as image:
        locator = Locator(image)
        found = list(locator.on_device(lost, 0, size))
        assert [_without_copies(piece) for piece in found] == [_without_copies(piece) for piece in expected]
        for piece in found:
            kept = {state.csum for state in piece.copies}
            assert kept == {"missing"} if piece.extent or piece.kind == "superblock" else kept <= {"none"}
        logical = next(piece.logical for piece in expected if piece.kind == "data" and piece.copies[0].csum == "ok")
        assert logical
        states = {copy.devid: copy.csum for copy in next(locator.at_logical(logical, 1)).copies}
        assert states.pop(lost) == "missing"
        assert list(states.values()) == (["ok"] if profile == "raid10" else [])


def _without_copies(piece: Piece) -> Piece:
    return piece._replace(copies=())


@pytest.mark.kernel
@pytest.mark.progs
def test_a_scan_of_all_trees_says_the_same(kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**IMAGES["dup"]).devices, warn=_fail) as image:
        said: list[str] = []
        locator = Locator(image)
        chunks = [(chunk.logical, chunk.length) for chunk in image.volume.chunk_map]
        by_references = [piece for span in chunks for piece in locator.at_logical(*span)]
        image.volume._warn = said.append
        locator._owners = locator._scan(NotFoundError("for the test"))
        by_scan = [piece for span in chunks for piece in locator.at_logical(*span)]
        assert [plain(piece) for piece in by_scan] == [plain(piece) for piece in by_references]
        assert {piece.way for piece in by_scan} == {"scan"}
        assert len(said) == 1


def plain(piece: Piece) -> Piece:
    """Return *piece* without what only the extent tree knows, and without the names of devices."""
    extent = piece.extent and piece.extent._replace(refs=(), generation=None)
    copies = tuple(copy._replace(device=None) for copy in piece.copies)
    return piece._replace(extent=extent, way=None, copies=copies)


def whole(image: Image) -> list[Piece]:
    return list(Locator(image).on_device(1, 0, image.volume.devices[1].size))


def test_a_copy_that_was_damaged_is_bad_and_the_other_is_good(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(broken) as image:
        answer = image.open(b"/vm/disk.raw").resolve(1064960)
        block = image.tree(TreeId.CSUM_TREE).root.logical
        second = image.volume.chunk_map.locate(block).copies[1].physical
    with open(broken, "r+b") as file:
        for offset in (answer.copies[0].physical + 1, second + 5000, SUPERBLOCK_OFFSETS[1] + 1000):
            file.seek(offset)
            file.write(b"\xee")
    with open_image(broken) as image:
        locator = Locator(image)
        assert answer.logical
        data, tree, beside = (next(locator.at_logical(at, 1)) for at in (answer.logical, block, answer.logical + 4096))
        assert [copy.csum for copy in data.copies] == ["bad", "ok"]
        assert [copy.csum for copy in tree.copies] == ["ok", "bad"]
        assert [copy.csum for copy in beside.copies] == ["ok", "ok"]
        for offset, kind, state in (
            (SUPERBLOCK_OFFSETS[0], "superblock", "ok"),
            (SUPERBLOCK_OFFSETS[1] + 4095, "superblock", "bad"),
            (answer.copies[0].physical, "data", "bad"),
            (second, "tree block", "bad"),
        ):
            piece = next(locator.on_device(1, offset, 1))
            assert (piece.kind, [copy.csum for copy in piece.copies]) == (kind, [state])


def test_a_lost_extent_tree_changes_the_way_and_no_answer(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(demo_image) as image:
        expected = whole(image)
        root = image.tree(TreeId.EXTENT_TREE).root.logical
        write_block(image, broken, root, bytes(image.volume.nodesize))
    said: list[str] = []
    with open_image(broken, warn=said.append) as image:
        found = whole(image)
    assert {piece.way for piece in found} == {"scan", None}
    lost = [piece for piece in found if piece.logical == root]
    assert [(piece.block, piece.copies[0].csum) for piece in lost] == [(None, "bad")] * 2
    assert [plain(piece) for piece in found if piece not in lost] == [
        plain(piece) for piece in expected if piece.logical != root
    ]
    assert any("all trees are scanned" in sentence for sentence in said)


def test_a_tree_beyond_all_addresses_keeps_no_other_from_being_scanned(demo_image: str, tmp_path: Path) -> None:
    path = copy_sparse([demo_image], str(tmp_path))[0]
    edits = ["root/256.ROOT_ITEM/bytenr=0x8000000000000000", "extent@root/header.generation=1"]
    with broken([path], edits), open_image(path, warn=lambda _said: None) as image:
        (piece,) = Locator(image).at_logical(image.tree(TreeId.FS_TREE).root.logical, 1)
        assert (piece.way, piece.kind) == ("scan", "tree block")


def test_bytes_that_no_file_reaches_are_a_bookends(demo_image: str) -> None:
    with open_image(demo_image, warn=_fail) as image:
        disk = next(row for row in image.open(b"/vm/disk.raw").extents() if row.extent)
        assert disk.extent
        pieces = list(Locator(image).at_logical(disk.extent.logical, disk.extent.length))
        assert not any(piece.bookend for piece in pieces), "a snapshot still has them"
        assert len({len(piece.sharers) for piece in pieces}) > 1


def test_a_bookend_names_who_keeps_it(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]

    def shorten(items: Any) -> None:
        key = next(key for key in items if key[:2] == (262, 108) and items[key][21:29] != bytes(8))
        items[key] = items[key][:45] + (4096).to_bytes(8, "little")

    edit_leaf(broken, TreeId.FS_TREE, shorten)
    with open_image(broken, warn=_fail) as image:
        row = next(row for row in image.open(b"/files/sparse.raw").extents() if row.extent)
        assert row.extent
        used, kept = Locator(image).at_logical(row.extent.logical, row.extent.length)
        assert (used.length, used.bookend, len(used.sharers)) == (4096, False, 1)
        assert (kept.length, kept.bookend, kept.sharers) == (row.extent.length - 4096, True, ())
        assert [(file.subvolume, file.inode, file.length) for file in kept.holders] == [(5, 262, 4096)]


def test_what_is_not_there(demo_image: str) -> None:
    with open_image(demo_image, warn=_fail) as image:
        locator, size = Locator(image), image.volume.devices[1].size
        with pytest.raises(NotFoundError, match=f"ends at {size}"):
            next(locator.on_device(1, size, 1))
        with pytest.raises(NotFoundError, match="no device 9"):
            next(locator.on_device(9, 0, 1))
        first = min(chunk.logical for chunk in image.volume.chunk_map)
        assert next((p.kind, p.length) for p in locator.at_logical(0, first + 1)) == ("unallocated", first)
        assert [(p.kind, p.length) for p in locator.at_logical(1 << 62, 7)] == [("unallocated", 7)]
