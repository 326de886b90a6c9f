"""Space over blank devices, with trees that hold nothing but what was put in, and a judge of what space puts there."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import BlockGroupItem, DevExtent, FreeSpaceInfo
from btrimg.ondisk.constants import DEV_ITEMS_OBJECTID, U64_MAX, ItemType, TreeId
from btrimg.trees.block import BlockReader
from btrimg.trees.overlay import EmptyTree, OverlayTree
from btrimg.volume.device import Device
from btrimg.volume.devicemap import RESERVED
from btrimg.volume.members import Member
from btrimg.volume.volume import Volume
from btrimg.write.chunks import Policy
from btrimg.write.firstitems import dev_item
from btrimg.write.mkfs import blank_superblock
from btrimg.write.options import new_options
from btrimg.write.space import Space
from support.images import DEVICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from btrimg.ondisk.chunks import DevItem
    from btrimg.trees.tree import Tree
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.write.options import Options
    from btrimg.write.space import Run

MIB = 1 << 20


SUPERBLOCK = 64 * MIB  # device offset
ELEMENT = 64 << 10


def sectors_of(run: Run | tuple[int, int], size: int) -> set[int]:
    return set(range(run[0], run[0] + run[1], size))


class Judge:
    """What an outsider reads from the trees and the chunk map."""

    def __init__(self, volume: Volume) -> None:
        self.volume, self.sector = volume, volume.sectorsize
        self._trees: dict[int, OverlayTree] = {}
        self._kept: dict[int, set[int]] = {}

    def tree(self, tree_id: int) -> OverlayTree:
        if tree_id not in self._trees:
            self._trees[tree_id] = OverlayTree(self.base(tree_id))
        return self._trees[tree_id]

    def base(self, tree_id: int) -> Tree:
        return EmptyTree(BlockReader(self.volume, set()), tree_id)

    @property
    def has_free_space_tree(self) -> bool:
        return bool(self.volume.superblock.compat_ro_flags & 1)

    def used_of(self, chunk: MappedChunk) -> int:
        """Return the bytes that the block group item of a chunk says are used."""
        own_tree = self.volume.superblock.compat_ro_flags & 8
        tree = self.tree(TreeId.BLOCK_GROUP_TREE if own_tree else TreeId.EXTENT_TREE)
        item = BlockGroupItem.unpack(tree.get(Key(chunk.logical, ItemType.BLOCK_GROUP_ITEM, chunk.length)))
        assert item.flags == chunk.type
        return int(item.used)

    def free_of(self, chunk: MappedChunk) -> set[int]:
        """Return the addresses of the sectors that the free space tree says are free, and judge its form."""
        tree, size = self.tree(TreeId.FREE_SPACE_TREE), self.sector
        free: set[int] = set()
        info = None
        ends = set()
        for key, payload in tree.items(Key(chunk.logical, 0, 0), Key(chunk.end - 1, 255, U64_MAX)):
            if key.type == ItemType.FREE_SPACE_INFO:
                info = FreeSpaceInfo.unpack(payload)
                assert key == (chunk.logical, key.type, chunk.length)
            elif key.type == ItemType.FREE_SPACE_EXTENT:
                assert key.objectid not in ends, "runs that touch are one"
                ends.add(key.objectid + key.offset)
                free |= set(range(key.objectid, key.objectid + key.offset, size))
            else:
                bits = (payload[bit // 8] >> bit % 8 & 1 for bit in range(key.offset // size))
                free |= {key.objectid + number * size for number, bit in enumerate(bits) if bit}
        assert info is not None
        assert info.extent_count == sum(sector - size not in free for sector in free)
        return free

    def in_superblocks(self, chunk: MappedChunk) -> set[int]:
        """Return the sectors of a chunk in elements, or rows with parity, where a superblock lies."""
        if chunk.logical not in self._kept:
            found = self._kept[chunk.logical] = set()
            for start in range(chunk.logical, chunk.end, ELEMENT):
                places = chunk.row(start).places if chunk.profile.parity else chunk.locate(start).copies
                if any(place.physical == SUPERBLOCK for place in places):
                    found |= set(range(start, start + ELEMENT, self.sector))
        return self._kept[chunk.logical]

    def judge_devices(self, items: Mapping[int, DevItem]) -> None:
        """See that chunks, device extents and device items tell the same, and nothing overlaps."""
        spans: dict[int, list[tuple[int, int]]] = {}
        for chunk in self.volume.chunk_map:
            for stripe in chunk.stripes:
                spans.setdefault(stripe.devid, []).append((stripe.offset, stripe.offset + chunk.stripe_length))
        for devid, item in items.items():
            mine = sorted(spans.get(devid, []))
            ends = [RESERVED, *(end for _, end in mine)]
            assert all(start >= end for end, (start, _) in zip(ends, mine, strict=False))
            assert ends[-1] <= item.total_bytes
            assert item.bytes_used == sum(end - start for start, end in mine)
            assert self.tree(TreeId.CHUNK_TREE).get(Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, devid)) == item.pack()
            extents = self.tree(TreeId.DEV_TREE).items(
                Key(devid, ItemType.DEV_EXTENT, 0), Key(devid, ItemType.DEV_EXTENT, U64_MAX)
            )
            assert [(key.offset, key.offset + DevExtent.unpack(each).length) for key, each in extents] == mine


class Blank(Judge):
    """Space on sparse devices, of different sizes unless said, for a filesystem with the *choices* of new_options.

    A superblock lies where chunks will be.
    """

    def __init__(self, directory: object, profile: str, sizes: Sequence[int] = (), **choices: Any) -> None:
        sizes = sizes or [(66 + 7 * number) * MIB for number in range(DEVICES[profile])]
        options = _options(sizes, data=profile, metadata=profile, **choices)
        members = []
        for each in options.devices:
            path = os.path.join(str(directory), f"blank-{each.devid}")
            with open(path, "wb") as file:
                file.truncate(each.size)
            members.append(Member(Device(path), blank_superblock(options, each)))
        super().__init__(Volume(members, members[0], _never))
        for each in options.devices:
            key = Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, each.devid)
            self.tree(TreeId.CHUNK_TREE).put(key, dev_item(each, options).pack())
        policy = Policy(options.data, options.metadata, options.system, options.mixed)
        self.space = Space(self.volume, self.tree, policy)

    def reopen(self) -> None:
        """Begin with a new Space, and what a commit would have kept in the superblock."""
        array = self.space.sys_chunk_array()
        self.volume.superblock = self.volume.superblock.replace(
            bytes_used=self.space.bytes_used,
            total_bytes=self.space.total_bytes,
            sys_chunk_array_size=len(array),
            sys_chunk_array=array.ljust(2048, b"\0"),
        )
        self.space = Space(self.volume, self.tree)


def _options(sizes: Sequence[int], **choices: Any) -> Options:
    uuids = (number.to_bytes(16, "big") for number in itertools.count(1))
    # Options refuse devices that would soon be full; here they may be.
    options = new_options([1 << 40] * len(sizes), lambda: next(uuids), **choices)
    devices = zip(options.devices, sizes, strict=True)
    return options._replace(devices=tuple(each._replace(size=size) for each, size in devices))


def _never(message: str) -> None:
    raise AssertionError(message)
