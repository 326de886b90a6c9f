"""Edits of large trees, of several devices and of logs, in images that the kernel wrote."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.broken import broken

from btrimg.corrupt import leaf
from btrimg.corrupt.engine import Corruptor
from btrimg.corrupt.finder import Finder
from btrimg.corrupt.words import parse_reference, parse_target
from btrimg.errors import BlockError, CorruptError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Header, Key, KeyPtr
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.hunt import hunt
from btrimg.volume.parity import compute_p, compute_q

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.filesystem.image import Image

    Base = Callable[[str], Sequence[str]]

pytestmark = pytest.mark.kernel


@contextmanager
def edited(devices: Sequence[str], *edits: str) -> Iterator[Image]:
    """Give the image with *edits*, which are taken back at the end."""
    with broken(devices, edits), open_image(devices, replay_log=None, warn=lambda _message: None) as image:
        yield image


def read(image: Image, reference: str) -> int | bytes:
    return Finder(image).read(*parse_reference(reference))


def number(image: Image, reference: str) -> int:
    value = read(image, reference)
    assert isinstance(value, int)
    return value


def first_keys(image: Image, tree: str) -> list[Key]:
    """Return the first key of every leaf of a tree that has one level of nodes above them."""
    return leaf.keys_of(Finder(image).descent.block(number(image, f"{tree}@1/header.bytenr")))


def test_deleting_the_first_item_of_a_leaf_is_told_to_the_nodes_above(base_image: Base) -> None:
    devices = base_image("rich")
    with open_image(devices) as image:
        first = first_keys(image, "extent")[3]
        items = dict(image.tree(TreeId.EXTENT_TREE).items())
    key = ".".join(map(str, first))
    with edited(devices, f"extent/{key}=none") as image:
        assert dict(image.tree(TreeId.EXTENT_TREE).items()) == {k: v for k, v in items.items() if k != first}
        assert first_keys(image, "extent")[3] > first
    with edited(devices, f"extent/{key}=none@keep-parents") as image, pytest.raises(BlockError, match="first key is"):
        list(image.tree(TreeId.EXTENT_TREE).items())
    with edited(devices, f"extent/{key}/slot.key.objectid-=1") as image:
        assert first._replace(objectid=first.objectid - 1) in dict(image.tree(TreeId.EXTENT_TREE).items())


def test_a_new_smallest_key_is_told_up_to_the_root(base_image: Base) -> None:
    devices = base_image("rich")
    with open_image(devices) as image:
        assert number(image, "fs@root/header.level") > 1
    with edited(devices, "fs/1.INODE_ITEM.0=0x01") as image:
        assert next(image.tree(TreeId.FS_TREE).items()) == (Key(1, ItemType.INODE_ITEM, 0), b"\x01")
        assert number(image, "fs@root/slots[0].key.objectid") == 1


def test_items_are_found_in_any_leaf_by_pattern_and_position(base_image: Base) -> None:
    with open_image(base_image("rich")) as image:
        finder = Finder(image)
        keys = [key for key, _ in image.tree(TreeId.EXTENT_TREE).items() if key.type == ItemType.METADATA_ITEM]
        for position in (0, 5, len(keys) - 1, -1, -len(keys)):
            assert finder.item(parse_target(f"extent/*.METADATA_ITEM.*[{position}]")).key == keys[position]
        of_level_1 = [key for key in keys if key.offset == 1]
        assert finder.item(parse_target("extent/*.METADATA_ITEM.1[1]")).key == of_level_1[1]
        assert finder.item(parse_target("256/*.INODE_REF")).key == Key(256, ItemType.INODE_REF, 256)


def test_only_a_root_may_be_left_without_items(base_image: Base) -> None:
    devices = base_image("rich")
    with open_image(devices) as image:
        count = len(list(image.tree(TreeId.UUID_TREE).items()))
    with edited(devices, *["uuid/*=none"] * count) as image:
        assert list(image.tree(TreeId.UUID_TREE).items()) == []
    with open_image(devices) as image, pytest.raises(CorruptError, match="its block, which would be left empty"):
        Corruptor(image).apply(["/xattrs/large:XATTR_ITEM=none"])  # it fills a leaf


def test_of_older_blocks_the_newest_that_starts_alike_is_taken(base_image: Base) -> None:
    devices = base_image("rich")
    with open_image(devices) as image:
        now = Header.unpack(Finder(image).descent.block(image.root_tree.root.logical))
        older = [each for each in hunt(image.blocks, TreeId.ROOT_TREE, print) if each.level == now.level]
        generations = sorted(each.generation for each in older if each.generation < now.generation)
    assert len(generations) > 3
    with edited(devices, "root@root=older@mirror:1") as image:
        assert number(image, "root@root/header.generation@mirror:1") == generations[-1]
        assert number(image, "root@root/header.bytenr@mirror:1") == now.bytenr


def test_key_pointers_of_nodes(base_image: Base) -> None:
    devices = base_image("rich")
    with open_image(devices) as image:
        count = number(image, "fs@1/header.nritems")
        second = read(image, "fs@1/slots[1]")
        items = len(list(image.tree(TreeId.FS_TREE).items()))
    with edited(devices, "fs@1/slots[0]=none@keep-parents") as image:
        assert number(image, "fs@1/header.nritems") == count - 1
        assert read(image, "fs@1/slots[0]") == second
        assert read(image, f"fs@1/slots[{count - 1}]") == bytes(KeyPtr.SIZE)
    with edited(devices, "fs@1/slots[2].generation-=1") as image, pytest.raises(BlockError, match="its parent says"):
        list(image.tree(TreeId.FS_TREE).items())
    with edited(devices, "fs@1/slots[2].blockptr={fs@1/slots[3].blockptr}") as image:
        assert 0 < len(list(image.tree(TreeId.FS_TREE).items(bad=lambda _error: None))) < items


def test_every_checksum_of_a_file_is_found(base_image: Base) -> None:
    """Over several leaves of the checksum tree, each is that of the sector's bytes."""
    with open_image(base_image("rich")) as image:
        digest, size = image.volume.csum.digest, image.volume.sectorsize
        rows = [row for row in image.open(b"/plain/big").extents() if row.extent]
        for row in rows:
            assert row.logical
            for at in range(row.logical, row.logical + row.length - size, 17 * size):
                assert read(image, f"csum-of/{at}") == digest(image.volume.read(at, size))
        assert rows


def test_quota_free_space_and_root_items(base_image: Base) -> None:
    devices = base_image("rich")
    edits = ["quota/0.QGROUP_INFO.256/rfer+=4096", "root/256.ROOT_ITEM/refs=0", "uuid/*.UUID_KEY_SUBVOL/[0].subvolid=9"]
    with open_image(devices) as image:
        referenced = number(image, "quota/0.QGROUP_INFO.256/rfer")
        extents = free_extents(image)
    with edited(devices, *edits, "free_space/*.FREE_SPACE_EXTENT.*[1]=none") as image:
        assert number(image, "quota/0.QGROUP_INFO.256/rfer") == referenced + 4096
        assert number(image, "root/256.ROOT_ITEM/refs") == 0
        assert number(image, "uuid/*.UUID_KEY_SUBVOL/subvolid") == 9
        assert free_extents(image) == [extents[0], *extents[2:]]


def free_extents(image: Image) -> list[Key]:
    items = image.tree(TreeId.FREE_SPACE_TREE).items()
    return [key for key, _ in items if key.type == ItemType.FREE_SPACE_EXTENT]


def test_log_trees(base_image: Base) -> None:
    with edited(base_image("log"), "log:5/*.INODE_ITEM/nlink=77", "log/*.ROOT_ITEM.256/generation+=5") as image:
        assert number(image, "log:5/*.INODE_ITEM/nlink") == 77
        assert number(image, "log:256/*.INODE_ITEM/nlink") != 77
        assert number(image, "log/*.ROOT_ITEM.256/generation") == number(image, "log/*.ROOT_ITEM.5/generation") + 5


def test_parity_follows_or_does_not(base_image: Base) -> None:
    devices = base_image("raid")
    with open_image(devices) as image:
        logical = next(row.logical for row in image.open(b"/plain/big").extents() if row.logical)
        chunk = image.volume.chunk_map.find(logical)
        assert (chunk.profile.name, len(chunk.stripes)) == ("raid6", 5)
    assert rows_agree(devices, f"data/{logical}^=0xff@keep-csum") == (True, True)
    assert rows_agree(devices, f"data/{logical}^=0xff@keep-parity") == (False, False)
    assert rows_agree(devices, f"parity-p/{logical}^=0xff") == (False, True)
    assert rows_agree(devices, f"parity-q/{logical}^=0xff") == (True, False)


def rows_agree(devices: Sequence[str], edit: str) -> tuple[bool, bool]:
    """Return whether P and Q of the edited row are what they should be."""
    with edited(devices, edit) as image:
        logical = int(edit.split("/")[1].split("^")[0])
        volume = image.volume
        places = volume.chunk_map.find(logical).row(logical).places
        *data, p, q = (volume.devices[at.devid].pread(16, at.physical) for at in places)
    return compute_p(data) == p, compute_q(data) == q


def test_copies_on_a_missing_device_are_left_out(base_image: Base) -> None:
    devices = base_image("raid")
    with open_image(devices) as image:
        logical = image.tree(TreeId.FS_TREE).root.logical
        places = image.volume.chunk_map.locate(logical).copies
        paths = {devid: device.path for devid, device in image.volume.devices.items()}
    present = [path for path in devices if path != paths[places[0].devid]]
    with edited(present, "fs@root/header.flags|=2") as image:
        assert image.volume.devices.keys() == paths.keys() - {places[0].devid}
        for copy in (1, 2):
            assert number(image, f"fs@root/header.flags@mirror:{copy}") & 2


def test_one_superblock_of_one_device(base_image: Base) -> None:
    with edited(base_image("raid"), "super/generation-=1@mirror:1@devid:3") as image:
        generation = image.superblock.generation
        for devid in image.volume.devices:
            for mirror in (0, 1):
                found = number(image, f"super/generation@mirror:{mirror}@devid:{devid}")
                assert found == generation - ((devid, mirror) == (3, 1))


def test_trees_that_are_broken_are_walked_all_the_same(base_image: Base) -> None:
    """Each edit finds its place in what those before it have left of the tree."""
    devices = base_image("rich")
    edits = [
        "fs@root/header.generation=1",
        "fs@root/header.owner=77",
        "fs@1/header.csum^=0xff",
        "fs@0/256.INODE_ITEM/header.bytenr=4096",
        "fs/256.INODE_ITEM/nlink=5",
    ]
    with edited(devices, *edits) as image:
        assert number(image, "fs/256.INODE_ITEM/nlink") == 5


def test_a_walk_that_would_not_end_ends(base_image: Base) -> None:
    with open_image(base_image("rich")) as image:
        corruptor = Corruptor(image)
        corruptor.apply(["fs@1/slots[0].blockptr={fs@1/header.bytenr}"])
        with pytest.raises(CorruptError, match="has level 1, that above it 1"):
            corruptor.apply(["fs/256.INODE_ITEM.0=0x"])
