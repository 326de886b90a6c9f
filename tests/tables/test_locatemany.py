"""Many addresses at once, against one after the other."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filesystem.test_locate import IMAGES
from hypothesis import given
from hypothesis import strategies as some
from support.forge import corrupt, write_block
from support.images import copy_sparse
from support.locatepieces import pieces_of

from btrimg.errors import NotFoundError
from btrimg.filesystem.columns import COMPRESSED, KINDS
from btrimg.filesystem.image import Image, open_image
from btrimg.filesystem.locate import Locator, Piece
from btrimg.filesystem.namei import paths_of
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, TreeId
from btrimg.render.answers import json_line
from btrimg.render.located import piece_lines, piece_object
from btrimg.render.located_many import json_chunks
from btrimg.render.located_parts import Shown
from btrimg.render.located_text import text_chunks
from btrimg.render.usage import json_names, printable_names
from btrimg.tables.coverage import holders_of, portions
from btrimg.tables.locatemany import Asked, ManyLocator
from btrimg.tables.locatescan import UnsoundError
from btrimg.volume.devicepieces import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.images import KernelImage
    from support.powerloss import CutImage

LOGICAL = "logical"
Address = tuple[int | str, int]  # devid or LOGICAL, and byte


def _fail(message: str) -> None:
    raise AssertionError(message)


def one_by_one(image: Image, locator: Locator, address: Address) -> Piece:
    where, at = address
    return next(locator.at_logical(at, 1) if where == LOGICAL else locator.on_device(int(where), at, 1))


def asked(addresses: list[Address]) -> Asked:
    devids = [NOWHERE if where == LOGICAL else int(where) for where, _ in addresses]
    return Asked(np.array(devids, np.int64), np.array([at for _, at in addresses], np.int64))


def at_once(image: Image, locator: Locator, addresses: list[Address], **options: Any) -> list[Piece]:
    many = ManyLocator(image, locator, asked(addresses), **options)

    def other(number: int) -> Piece:
        return one_by_one(image, locator, addresses[number])

    return [piece for answers in many.answers() for piece in pieces_of(image, many, answers, other)]


def sampled(image: Image, count: int) -> list[Address]:
    """Return random addresses of every kind: of devices, most of them where chunks are, in extents, superblocks."""
    rng = random.Random(count)
    chunks = list(image.volume.chunk_map)
    found: list[Address] = [(devid, at + 5) for devid in image.volume.devices for at in SUPERBLOCK_OFFSETS[:2]]
    found += [(devid, rng.randrange(device.size)) for devid, device in image.volume.devices.items() for _ in range(20)]
    for at in range(count):
        chunk = rng.choice(chunks)
        stripe = rng.choice(chunk.stripes)
        within = int(rng.random() ** 3 * chunk.stripe_length)  # most of what is allocated is at the start
        place: Address = (stripe.devid, stripe.offset + within)
        found.append(place if at % 3 else (LOGICAL, chunk.logical + int(rng.random() ** 3 * chunk.length)))
    rows = image.extents()
    for at in rng.choices(np.flatnonzero(rows.extent_logical), k=count // 2):
        found.append((LOGICAL, int(rows.extent_logical[at]) + rng.randrange(rows.extent_length[at])))
    return [*found, (LOGICAL, 0), (LOGICAL, 1 << 62)]


def without_way(piece: Piece) -> Piece:
    """Return a piece without what a scan does not look at: references, and the way they are gone."""
    return piece._replace(way=None, extent=piece.extent._replace(refs=()) if piece.extent else None)


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES.values(), ids=IMAGES)
def test_many_addresses_are_told_as_each_one(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**options).devices, warn=_fail) as image:
        locator, addresses = Locator(image), sampled(image, 300)
        pieces = at_once(image, locator, addresses)
        for address, piece in zip(addresses, pieces, strict=True):
            assert without_way(piece) == without_way(one_by_one(image, locator, address)), address
        assert {"superblock", "tree block", "data", "free", "unallocated"} <= {piece.kind for piece in pieces}
        assert ("parity" in {piece.kind for piece in pieces}) == (
            "raid5" in options.values() or "raid6" in options.values()
        )
        assert any(len(piece.sharers) > 3 for piece in pieces)
        assert any(piece.holders for piece in pieces)
        unchecked = at_once(image, Locator(image, verify=False), addresses, verify=False)
        assert {state.csum for piece in unchecked for state in piece.copies if piece.extent} == {"unchecked"}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", [IMAGES["dup"], IMAGES["raid6"]], ids=["dup", "raid6"])
def test_lines_are_those_of_each_piece(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**options).devices, warn=_fail) as image:
        locator, addresses = Locator(image), sampled(image, 600)

        def line(piece: Piece) -> bytes:
            return (json_line(piece_object(piece, lambda tree, ino: paths_of(image, tree, ino))) + "\n").encode()

        many = ManyLocator(image, locator, asked(addresses), text=json_names)
        shown = Shown(
            many, image, lambda *_: [], lambda at: line(one_by_one(image, locator, addresses[at])), json_names
        )
        lines = b"".join(chunk for answers in many.answers() for chunk in json_chunks(shown, answers))
        expected = [line(piece) for piece in at_once(image, locator, addresses)]
        for found, wanted in zip(lines.splitlines(keepends=True), expected, strict=True):
            assert found == wanted


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", [IMAGES["dup"], IMAGES["raid6"]], ids=["dup", "raid6"])
def test_text_is_that_of_each_piece(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**options).devices, warn=_fail) as image:
        locator, addresses = Locator(image), sampled(image, 600)

        def lines(piece: Piece) -> bytes:
            told = piece_lines(piece, lambda tree, ino: paths_of(image, tree, ino))
            return "".join(f"{line}\n" for line in told).encode()

        many = ManyLocator(image, locator, asked(addresses), text=printable_names)
        other = lambda at: lines(one_by_one(image, locator, addresses[at]))  # noqa: E731
        shown = Shown(many, image, lambda *_: [], other, printable_names)
        text = b"".join(chunk for answers in many.answers() for chunk in text_chunks(shown, answers))
        assert text == b"".join(map(lines, at_once(image, locator, addresses)))
        assert text.count(b"  kept by   ") > 3


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("name", ["dup", "raid1c3", "raid5"])
def test_every_file_leads_there_and_back(name: str, kernel_image: Callable[..., KernelImage]) -> None:
    """The first and the last byte of every piece of every file extent, on every copy, lead back to the file."""
    with open_image(kernel_image(**IMAGES[name]).devices, warn=_fail) as image:
        rows = image.extents(pieces=True)
        addresses: list[Address] = []
        own = []
        for at in range(rows.rows):
            packed = rows.kind[at] == COMPRESSED
            last = int(rows.extent_length[at] if packed else rows.length[at]) - 1
            for copy in range(int(rows.copies[at])):
                for byte in {0, 0 if packed and rows.copies[at] == 1 else min(last, 4095 if packed else last)}:
                    addresses.append((int(rows.devid[copy, at]), int(rows.physical[copy, at]) + byte))
                    offset = int(rows.offset[at]) + (0 if packed else byte)
                    own.append((int(rows.subvolume[at]), int(rows.inode[at]), offset, KINDS[rows.kind[at]]))
        pieces = at_once(image, Locator(image), addresses)
        assert len(pieces) > 900
        for piece, file in zip(pieces, own, strict=True):
            assert file in {(*sharer[:3], sharer.kind) for sharer in piece.sharers}
            assert {state.csum for state in piece.copies} <= {"ok", "none"}


@pytest.mark.kernel
@pytest.mark.progs
def test_what_only_the_log_knows_is_named(cut_image: Callable[..., CutImage]) -> None:
    with open_image(cut_image().devices, warn=lambda _: None) as image:
        locator = Locator(image)
        starts, ends = locator.log_ranges()
        assert len(starts) > 4
        addresses: list[Address] = [
            (LOGICAL, at) for each in zip(starts, ends, strict=True) for at in (each[0], each[1] - 1)
        ]
        pieces = at_once(image, locator, addresses)
        each = [one_by_one(image, locator, address) for address in addresses]
        assert list(map(without_way, pieces)) == list(map(without_way, each))
        blocks = [piece.block for piece in pieces if piece.kind == "tree block" and piece.way == "log"]
        assert {block.trees for block in blocks if block} == {(TreeId.TREE_LOG,)}
        new = image.superblock.log_root
        assert new in starts
        logged = [piece for piece in pieces if piece.kind == "data" and piece.way == "log"]
        assert {sharer.subvolume for piece in logged for sharer in piece.sharers} >= {TreeId.FS_TREE}
        before = next(locator.at_logical(starts[0] - 1, 2))
        assert before.length == 1


@pytest.mark.kernel
@pytest.mark.progs
def test_damage_is_told_as_of_each_one(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    """Of two copies of a leaf one is bad; another leaf is bad in both; data are bad in the first copy."""
    devices = copy_sparse(kernel_image(**IMAGES["dup"]).devices, str(tmp_path))
    with open_image(devices, warn=_fail) as image:
        file = image.open(b"/plain/base")
        logical = [next(row.logical for row in file.extents() if row.kind == "regular")]
        root = image.subvolume(TreeId.FS_TREE).tree.root
        node = image.blocks.read(root).child(0, root)
        leaves = image.blocks.read(node).children(range(2, 4), node)
        logical += [leaf.logical for leaf in leaves]
        places = [image.volume.chunk_map.locate(at or 0).copies for at in logical]
        addresses: list[Address] = [(LOGICAL, at or 0) for at in logical]
        addresses += [(copy.devid, copy.physical) for place in places for copy in place]
    with open(devices[0], "r+b") as disk:
        for copy in (places[0][0], places[1][0], *places[2]):
            disk.seek(copy.physical + 999)
            disk.write(b"garbage")
    with open_image(devices, warn=lambda _: None) as image:
        locator = Locator(image)
        pieces = at_once(image, locator, addresses)
        assert [[state.csum for state in piece.copies] for piece in pieces] == [
            *(["bad", "ok"], ["bad", "ok"], ["bad", "bad"]),
            *(["bad"], ["ok"], ["bad"], ["ok"], ["bad"], ["bad"]),
        ]
        assert all(piece.block for piece in pieces if piece.logical == logical[1] and piece.copies[-1].csum == "ok")
        for address, piece in zip(addresses, pieces, strict=True):
            if piece.kind == "tree block":
                assert without_way(piece) == without_way(one_by_one(image, locator, address))


@pytest.mark.parametrize("mirror", [0, 1])
def test_a_copy_that_a_lost_write_left_is_not_the_block(mirror: int, demo_image: str, tmp_path: Path) -> None:
    """The old copy has a good checksum: only its generation tells it from what stands in the tree."""
    stale = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(stale) as image:
        logical = image.subvolume(TreeId.FS_TREE).tree.root.logical
        generation = image.blocks.read(image.subvolume(TreeId.FS_TREE).tree.root).header.generation
        copies = image.volume.chunk_map.locate(logical).copies
    corrupt(stale, f"block@{logical}/header.generation-=1@mirror:{mirror}")
    addresses: list[Address] = [(LOGICAL, logical), *((copy.devid, copy.physical + 99) for copy in copies)]
    states = ["ok", "bad"] if mirror else ["bad", "ok"]
    with open_image(stale, warn=lambda _: None) as image:
        locator = Locator(image)
        for pieces in (at_once(image, locator, addresses), [one_by_one(image, locator, each) for each in addresses]):
            told = [[state.csum for state in piece.copies] for piece in pieces]
            assert told == [states, *([each] for each in states)]
            assert {piece.block.generation for piece in pieces if piece.block} == {generation}
            assert all(piece.block for piece in pieces)


def test_a_block_is_told_when_its_extent_item_is_what_is_wrong(demo_image: str, tmp_path: Path) -> None:
    lying = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(lying) as image:
        logical = image.subvolume(TreeId.FS_TREE).tree.root.logical
    corrupt(lying, f"extent/{logical}.METADATA_ITEM/generation+=7")
    with open_image(lying, warn=_fail) as image:
        locator, address = Locator(image), (LOGICAL, logical)
        for piece in (at_once(image, locator, [address])[0], one_by_one(image, locator, address)):
            assert [state.csum for state in piece.copies] == ["ok", "ok"]
            assert piece.block


def test_without_a_sound_extent_tree_nothing_is_told_at_once(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(broken) as image:
        at = image.tree(TreeId.EXTENT_TREE).root.logical
        write_block(image, broken, at, bytes(image.volume.nodesize))
        addresses: list[Address] = [(LOGICAL, 72531968), (1, 65536)]
    with open_image(broken, warn=lambda _: None) as image, pytest.raises(UnsoundError):
        ManyLocator(image, Locator(image), asked(addresses))


def test_places_that_are_not_there(demo_image: str) -> None:
    with open_image(demo_image, warn=_fail) as image:
        locator, size = Locator(image), image.volume.devices[1].size
        with pytest.raises(NotFoundError, match=f"ends at {size}"):
            ManyLocator(image, locator, asked([(1, 0), (1, size)]))
        with pytest.raises(NotFoundError, match="no device 9"):
            ManyLocator(image, locator, asked([(9, 0)]))


SPANS = some.lists(some.tuples(some.integers(0, 300), some.integers(0, 90)), max_size=30)


@given(some.lists(some.integers(0, 400), max_size=30), SPANS)
def test_ranges_that_hold_points_are_found(points: list[int], spans: list[tuple[int, int]]) -> None:
    start, length = np.array(spans, np.int64).reshape(-1, 2).T
    point, span = holders_of(np.array(points, np.int64), start, length)
    expected = {
        (p, s) for p, at in enumerate(points) for s, (first, size) in enumerate(spans) if 0 <= at - first < size
    }
    assert len(point) == len(expected)
    assert set(zip(point.tolist(), span.tolist(), strict=True)) == expected


@given(some.lists(some.integers(0, 9)), some.integers(1, 20))
def test_portions_are_small_or_of_one(counts: list[int], most: int) -> None:
    slices = list(portions(np.array(counts, np.int64), most))
    assert [each for part in slices for each in counts[part]] == counts
    assert all(part.stop - part.start == 1 or sum(counts[part]) <= most for part in slices)
