"""A new filesystem: nothing but a first transaction on blank devices.

The caller adds files to it or not, and commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import OptionError
from btrimg.ondisk.constants import MAGIC, U64_MAX, BlockGroup, SuperFlag, TreeId
from btrimg.ondisk.superblock import Superblock
from btrimg.volume.members import Member
from btrimg.volume.volume import Volume
from btrimg.volume.writer import VolumeWriter
from btrimg.write.chunks import Policy
from btrimg.write.firstitems import dev_item, first_items
from btrimg.write.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.ondisk.inodes import Timespec
    from btrimg.volume.device import Device
    from btrimg.volume.writer import Sink
    from btrimg.write.options import NewDevice, Options

_LABEL_FIELD = 256  # bytes
_BEFORE_THE_FIRST = 0  # generation


def make_filesystem(
    options: Options,
    devices: Mapping[int, Device],
    sink: Sink,
    *,
    now: Timespec,
    uuids: Callable[[], bytes],
    warn: Callable[[str], None],
) -> Transaction:
    """Return a transaction whose commit makes the filesystem that *options* say, on blank *devices* (by devid).

    *sink* writes to them, *now* is the clock, *uuids* gives those of subvolumes to come. Raises OptionError when the
    devices are not those of the options, NoSpaceError when they have no room for a first chunk of each kind.
    """
    _refuse_other_devices(options, devices)
    members = [Member(devices[each.devid], blank_superblock(options, each)) for each in options.devices]
    volume = Volume(members, members[0], warn)
    txn = Transaction(
        volume,
        VolumeWriter(volume, sink),
        chunk_tree_uuid=options.chunk_tree_uuid,
        now=now,
        uuids=uuids,
        policy=Policy(options.data, options.metadata, options.system, options.mixed),
        items=first_items(options, _BEFORE_THE_FIRST + 1, now),
    )
    for kind in (BlockGroup.SYSTEM, BlockGroup.METADATA, BlockGroup.DATA):
        txn.space.provide(kind)
    return txn


def _refuse_other_devices(options: Options, devices: Mapping[int, Device]) -> None:
    for each in options.devices:
        device = devices.get(each.devid)
        if device is None:
            raise OptionError(f"device {each.devid} is missing: name a file or block device for it")
        if device.size < each.size:
            raise OptionError(f"{device.path} has {device.size} bytes, which are less than {each.size}: make it larger")


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
