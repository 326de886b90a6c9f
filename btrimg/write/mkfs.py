"""A new filesystem: nothing but a first transaction on blank devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.ondisk.constants import MAGIC, U64_MAX, SuperFlag, TreeId
from btrimg.ondisk.superblock import Superblock
from btrimg.write.firstitems import dev_item

if TYPE_CHECKING:
    from btrimg.write.options import NewDevice, Options

_LABEL_FIELD = 256  # bytes
_BEFORE_THE_FIRST = 0  # generation


def blank_superblock(options: Options, device: NewDevice) -> Superblock:
    """Return the superblock of *device* as it is before the first commit: without any tree or chunk."""
    return Superblock.unpack(bytes(Superblock.SIZE)).replace(
        fsid=options.fsid,
        flags=SuperFlag.WRITTEN,
        magic=MAGIC,
        generation=_BEFORE_THE_FIRST,
        total_bytes=sum(each.size for each in options.devices),
        root_dir_objectid=TreeId.ROOT_TREE_DIR,
        num_devices=len(options.devices),
        sectorsize=options.sectorsize,
        nodesize=options.nodesize,
        leafsize=options.nodesize,
        stripesize=options.sectorsize,
        compat_ro_flags=options.compat_ro,
        incompat_flags=options.incompat,
        csum_type=options.csum,
        dev_item=dev_item(device, options),
        label=options.label.ljust(_LABEL_FIELD, b"\0"),
        # Without a free space tree: the generation of no commit, so that no v1 cache is taken to be valid.
        cache_generation=0 if options.free_space_tree else U64_MAX,
    )
