"""Blank devices with a Space over them, and trees that are nothing but what was put into them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import DEV_ITEMS_OBJECTID, CompatRo, ItemType, TreeId
from btrimg.trees.block import BlockReader
from btrimg.trees.overlay import EmptyTree, OverlayTree
from btrimg.volume.device import Device
from btrimg.volume.members import Member
from btrimg.volume.volume import Volume
from btrimg.write.chunks import Policy
from btrimg.write.firstitems import dev_item
from btrimg.write.mkfs import blank_superblock
from btrimg.write.options import new_options
from btrimg.write.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.write.options import Options

MIB = 1 << 20


class Blank(NamedTuple):
    """A filesystem to be, of which only space is kept."""

    volume: Volume
    trees: dict[int, OverlayTree]
    policy: Policy

    def tree(self, tree_id: int) -> OverlayTree:
        return self.trees.setdefault(tree_id, OverlayTree(EmptyTree(BlockReader(self.volume, set()), tree_id)))

    def space(self, *, policy: bool = True) -> Space:
        return Space(self.volume, self.tree, self.policy if policy else None)

    def remember(self, space: Space) -> None:
        """Keep in the superblock what a commit would write there, so that the next Space can begin with it."""
        array = space.sys_chunk_array()
        self.volume.superblock = self.volume.superblock.replace(
            bytes_used=space.bytes_used,
            total_bytes=space.total_bytes,
            sys_chunk_array_size=len(array),
            sys_chunk_array=array.ljust(2048, b"\0"),
        )


def numbered(*, start: int = 1) -> Sequence[bytes]:
    return [number.to_bytes(16, "big") for number in range(start, start + 40)]


def blank(directory: object, sizes: Sequence[int], **choices: object) -> Blank:
    """Make sparse devices of *sizes* bytes for a filesystem with the *choices* of ``new_options``."""
    uuids = iter(numbered())
    options: Options = new_options(sizes, lambda: next(uuids), **choices)  # type: ignore[arg-type]
    members = []
    for each in options.devices:
        path = os.path.join(str(directory), f"blank-{each.devid}")
        with open(path, "wb") as file:
            file.truncate(each.size)
        members.append(Member(Device(path), blank_superblock(options, each)))
    volume = Volume(members, members[0], _never)
    made = Blank(volume, {}, Policy(options.data, options.metadata, options.system, options.mixed))
    for each in options.devices:
        key = Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, each.devid)
        made.tree(TreeId.CHUNK_TREE).put(key, dev_item(each, options).pack())
    return made


def has_block_group_tree(volume: Volume) -> bool:
    return bool(volume.superblock.compat_ro_flags & CompatRo.BLOCK_GROUP_TREE)


def _never(message: str) -> None:
    raise AssertionError(message)
