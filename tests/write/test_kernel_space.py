"""Free space of images that the kernel wrote: what is loaded, and that chunks go beside the kernel's own."""

from __future__ import annotations

import os
import stat
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from support import images, kernel, odd
from support.bases import NEW_CACHE
from support.blank import Judge, sectors_of
from support.judges import complaints
from support.matrix import Variant, name_of, options_of, variants
from support.populate import Filler

from btrimg.errors import CorruptError, NoSpaceError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import BlockGroup, FileType, ItemType, TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.tables.cachedspace import cached_rows
from btrimg.volume.sink import DeviceSink
from btrimg.write import contents, inodes, names
from btrimg.write.begin import begin
from btrimg.write.blockgroups import Group, Ledger
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.space import Space
from btrimg.write.subvolumes import TOP_DIRECTORY
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.images import KernelImage

    from btrimg.filesystem.image import Image
    from btrimg.trees.tree import Tree
    from btrimg.write.space import Run

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

CELLS = {cell.profile: cell for cell in reversed(variants())}.values()
MIXED: dict[str, Any] = {"mkfs_options": ("--mixed",), "nodesize": 4096, "profile": "dup"}


class Opened(Judge):
    """Changes laid over the trees of an image."""

    def __init__(self, image: Image) -> None:
        super().__init__(image.volume)
        self._image = image

    def base(self, tree_id: int) -> Tree:
        return self._image.tree(tree_id)

    def without_space_tree(self) -> None:
        """Have free space read from the extent tree."""
        superblock = self.volume.superblock
        self.volume.superblock = superblock.replace(compat_ro_flags=superblock.compat_ro_flags & ~3)


def free_by_chunk(opened: Opened) -> dict[int, list[tuple[int, int]]]:
    ledger = Ledger(opened.volume, opened.tree)
    return {chunk.logical: list(ledger.load(Group(chunk))) for chunk in opened.volume.chunk_map}


def both_ways(devices: Sequence[str]) -> tuple[dict[int, list[tuple[int, int]]], dict[int, list[tuple[int, int]]]]:
    """Return what is free by the free space tree, and what by the extent tree."""
    with open_image(devices) as image:
        opened = Opened(image)
        by_space_tree = free_by_chunk(opened)
        opened.without_space_tree()
        return by_space_tree, free_by_chunk(opened)


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_both_trees_say_the_same(cell: Variant, kernel_image: Callable[..., KernelImage]) -> None:
    by_space_tree, by_extents = both_ways(kernel_image(**options_of(cell)).devices)
    assert by_space_tree == by_extents
    assert sum(map(len, by_extents.values())) > 10


def test_both_trees_say_the_same_of_mixed_block_groups(kernel_image: Callable[..., KernelImage]) -> None:
    by_space_tree, by_extents = both_ways(kernel_image(**MIXED).devices)
    assert by_space_tree == by_extents
    assert sum(map(len, by_extents.values())) > 10


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """Give the devices of an image with so many holes that the kernel keeps them as bitmaps."""
    devices = odd.replaced(str(tmp_path_factory.mktemp("fragmented")))
    with kernel.mount(devices, options=NEW_CACHE):
        return devices


def test_bitmaps_are_read_and_stay_bitmaps(fragmented: Sequence[str]) -> None:
    """Taking every other hole and giving back every other file makes the runs that a reader of bits finds."""
    by_space_tree, by_extents = both_ways(fragmented)
    assert by_space_tree == by_extents
    with open_image(fragmented) as image:
        opened = Opened(image)
        assert any(key.type == ItemType.FREE_SPACE_BITMAP for key, _ in opened.tree(TreeId.FREE_SPACE_TREE).items())
        space, before = Space(image.volume, opened.tree), dict(opened.tree(TreeId.FREE_SPACE_TREE).items())
        used: dict[int, set[int]] = {
            chunk.logical: sectors_of((chunk.logical, chunk.length), 4096) - opened.free_of(chunk)
            for chunk in image.volume.chunk_map
        }
        for run in space.allocate_data(8 << 20, longest=8192):
            used[image.volume.chunk_map.find(run.logical).logical] |= sectors_of(run, 4096)
        (many,) = (chunk for chunk in image.volume.chunk_map if len(by_space_tree[chunk.logical]) > 500)
        for sector in sorted(used[many.logical])[::3]:
            space.release(sector, 4096)
            used[many.logical].remove(sector)
        space.record()
        for chunk in image.volume.chunk_map:
            assert opened.free_of(chunk) == sectors_of((chunk.logical, chunk.length), 4096) - used[chunk.logical]
        after = dict(opened.tree(TreeId.FREE_SPACE_TREE).items())
        assert {key for key in after if key.type == ItemType.FREE_SPACE_BITMAP} == {
            key for key in before if key.type == ItemType.FREE_SPACE_BITMAP
        }


def test_commits_keep_bitmaps_right(fragmented: Sequence[str], tmp_path: Path) -> None:
    """Some files fill holes, some are deleted in the next commit; then the kernel goes on and moves all of it."""
    devices = images.copy_sparse(fragmented, str(tmp_path))
    with open_image(devices) as image, DeviceSink(image.volume.devices) as sink:
        txn = begin(image, sink, now=Timespec(1_800_000_000, 0), uuids=seeded(b"bitmaps"))
        files = Files(txn, TreeId.FS_TREE)
        with closing(DataSink(txn)) as data:
            for number in range(200):
                ino = inodes.create(files, stat.S_IFREG | 0o644)
                names.enter(files, TOP_DIRECTORY, b"new-%d" % number, ino, FileType.REG_FILE)
                contents.write(files, ino, 0, bytes([number]) * 9000, Storage(data))
            data.flush()
            txn.commit()
            for number in range(0, 200, 2):
                names.unlink(files, TOP_DIRECTORY, b"new-%d" % number)
            txn.commit()
    assert complaints(devices) == []
    with kernel.mount(devices) as top:
        for number in range(1, 200, 2):
            with open(os.path.join(top, f"new-{number}"), "rb") as file:
                assert file.read() == bytes([number]) * 9000
        kernel.run("btrfs", "balance", "start", "--full-balance", top)
    assert complaints(devices) == []


def test_commits_on_a_sprout_leave_the_seed_alone(tmp_path: Path) -> None:
    """What lies on the seed may be released, and nothing is written there."""
    seed, top = images.new_devices(str(tmp_path), 2, 256 * images.MIB)
    images.mkfs([seed], "single", "dup")
    with kernel.mount([seed], options=NEW_CACHE) as directory:
        Filler(directory).write(b"old", bytes(300_000))
    kernel.run("btrfstune", "-f", "-S", "1", seed)
    with kernel.loop_devices([top]) as (target,), kernel.mount([seed], read_only=True) as directory:
        kernel.run("btrfs", "device", "add", "-f", target, directory)
    with open(seed, "rb") as file:
        before = file.read()
    with open_image([top, seed]) as image, DeviceSink(image.volume.devices) as sink:
        txn = begin(image, sink, now=Timespec(1_800_000_000, 0), uuids=seeded(b"sprout"))
        files = Files(txn, TreeId.FS_TREE)
        names.unlink(files, TOP_DIRECTORY, b"old")
        with closing(DataSink(txn)) as data:
            ino = inodes.create(files, stat.S_IFREG | 0o644)
            names.enter(files, TOP_DIRECTORY, b"new", ino, FileType.REG_FILE)
            contents.write(files, ino, 0, bytes(range(256)) * 999, Storage(data))
            data.flush()
            txn.commit()
    assert complaints([top, seed]) == []
    with open(seed, "rb") as file:
        assert file.read() == before
    with kernel.mount([top, seed]) as directory, open(os.path.join(directory, "new"), "rb") as file:
        assert file.read() == bytes(range(256)) * 999
        assert os.listdir(directory) == ["new"]


def test_a_cached_image_has_the_space_that_the_kernel_cached(base_image: Callable[[str], Sequence[str]]) -> None:
    """The kernel's v1 cache leaves out the places of superblocks, too."""
    with open_image(base_image("old")) as image:
        rows = cached_rows(image)
        cached = [
            sectors_of(row, 4096) for row in zip(*(map(int, rows[name]) for name in ("logical", "length")), strict=True)
        ]
        space, found = set().union(*cached), 0
        for logical, runs in free_by_chunk(Opened(image)).items():
            chunk = image.volume.chunk_map.find(logical)
            mine = {sector for start, end in runs for sector in range(start, end, 4096)}
            here = sectors_of((logical, chunk.length), 4096) & space
            assert here in (set(), mine), "a block group is cached or not"
            found += len(here)
        assert found == len(space) > 1000


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_chunks_go_beside_those_of_the_kernel(cell: Variant, kernel_image: Callable[..., KernelImage]) -> None:
    """New block groups are like the old ones, and lie where nothing lies, until the devices are full."""
    with open_image(kernel_image(**options_of(cell)).devices) as image:
        opened, volume = Opened(image), image.volume
        space, old = Space(volume, opened.tree), list(volume.chunk_map)
        allocated = list(_until_full(space, 24 << 20))
        with pytest.raises(NoSpaceError, match=rf"bytes of data \({cell.profile}\); device 1 has \d+ of \d+ bytes"):
            space.allocate_data(24 << 20)
        blocks = space.allocate_blocks(BlockGroup.METADATA, 20)
        assert blocks == sorted(set(blocks))
        space.record()
        opened.judge_devices(space.device_items())
        new = list(volume.chunk_map)[len(old) :]
        assert {(chunk.profile.name, chunk.type & 7) for chunk in new} <= {(cell.profile, 1)}
        assert new or cell.profile == "raid1c4", "the kernel left no room on its devices"
        taken = sum(run.length for run in allocated) + 20 * volume.nodesize
        assert space.bytes_used == volume.superblock.bytes_used + taken
        for chunk in volume.chunk_map:
            free = opened.free_of(chunk)
            assert free >= opened.in_superblocks(chunk)
            assert opened.used_of(chunk) == chunk.length - len(free) * volume.sectorsize


def _until_full(space: Space, length: int) -> Iterator[Run]:
    with suppress(NoSpaceError):
        while True:
            yield from space.allocate_data(length)


def test_recording_without_changes_writes_nothing(kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**MIXED).devices) as image:
        opened = Opened(image)
        space = Space(image.volume, opened.tree)
        (run,) = space.allocate_data(4096)
        space.release(*run)
        space.record()
        assert all(opened.tree(tree_id).pending == 0 for tree_id in (2, 3, 4, 10))


def test_space_that_does_not_add_up_is_not_given_out(kernel_image: Callable[..., KernelImage]) -> None:
    """Else data would be written over: an extent that the free space tree does not know."""
    with open_image(kernel_image(**MIXED).devices) as image:
        opened = Opened(image)
        chunk = next(chunk for chunk in image.volume.chunk_map if chunk.type & BlockGroup.DATA)
        tree = opened.tree(TreeId.EXTENT_TREE)
        key = Key(chunk.logical, ItemType.BLOCK_GROUP_ITEM, chunk.length)
        payload = tree.get(key)
        tree.put(key, (int.from_bytes(payload[:8], "little") + 4096).to_bytes(8, "little") + payload[8:])
        with pytest.raises(CorruptError, match=r"bytes in use and \d+ free, which are not its"):
            Space(image.volume, opened.tree).allocate_data(4096)
        tree.delete(key)
        with pytest.raises(CorruptError, match=f"chunk {chunk.logical} has no block group item"):
            Space(image.volume, opened.tree).allocate_data(4096)
