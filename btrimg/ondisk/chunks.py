"""Devices, chunks, and what accounts for them: device extents, block groups, free space, stripes, remaps."""

from __future__ import annotations

from btrimg.ondisk.blocks import DiskKey
from btrimg.ondisk.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Annotated

    from btrimg.ondisk.fields import U8, U16, U32, U64, Uuid, counted, times


class DevItem(Record):
    """A device (``struct btrfs_dev_item``); key: (1, DEV_ITEM, devid); a copy stands in its superblock."""

    devid: U64
    total_bytes: U64
    bytes_used: U64  #: allocated to device extents
    io_align: U32
    io_width: U32
    sector_size: U32
    type: U64  #: unused, 0
    generation: U64  #: 0 but for seed devices
    start_offset: U64  #: unused, 0
    dev_group: U32
    seek_speed: U8
    bandwidth: U8
    uuid: Uuid  #: of the device
    fsid: Uuid  #: of the filesystem; of the seed for a seed device


class Stripe(Record):
    """One device's part of a chunk (``struct btrfs_stripe``)."""

    devid: U64
    offset: U64  #: physical, on that device
    dev_uuid: Uuid


class Chunk(Record):
    """A mapping from logical to physical (``struct btrfs_chunk``); key: (256, CHUNK_ITEM, logical)."""

    length: U64  #: logical bytes
    owner: U64  #: objectid of the extent tree, 2
    stripe_len: U64  #: always STRIPE_LEN
    type: U64  #: BlockGroup
    io_align: U32
    io_width: U32
    sector_size: U32
    num_stripes: U16
    sub_stripes: U16  #: copies within RAID10; not to be trusted, old mkfs wrote 0
    stripes: Annotated[tuple[Stripe, ...], counted("num_stripes", Stripe)]


def sys_chunks(array: bytes) -> Iterator[tuple[DiskKey, Chunk]]:
    """Yield the entries of a superblock's sys_chunk_array, of which *array* is the part in use.

    Raises CorruptError when the last entry is cut short.
    """
    offset = 0
    while offset < len(array):
        key = DiskKey.unpack(array, offset)
        chunk = Chunk.unpack(array, offset + DiskKey.SIZE)
        yield key, chunk
        offset += DiskKey.SIZE + chunk.packed_size()


class DevExtent(Record):
    """Footprint of a chunk on a device (``struct btrfs_dev_extent``); key: (devid, DEV_EXTENT, physical)."""

    chunk_tree: U64  #: objectid of the chunk tree, 3
    chunk_objectid: U64  #: of the chunk's key, 256
    chunk_offset: U64  #: logical start of the chunk
    length: U64  #: bytes on this device
    chunk_tree_uuid: Uuid


class BlockGroupItem(Record):
    """Accounting of a chunk (``struct btrfs_block_group_item``); key: (logical, BLOCK_GROUP_ITEM, length)."""

    used: U64  #: bytes in extents
    chunk_objectid: U64
    flags: U64  #: BlockGroup


class BlockGroupItemV2(Record):
    """Accounting of a chunk on a filesystem with a remap tree (``struct btrfs_block_group_item_v2``)."""

    used: U64  #: bytes in extents
    chunk_objectid: U64
    flags: U64  #: BlockGroup
    remap_bytes: U64  #: moved here from other block groups
    identity_remap_count: U32  #: IDENTITY_REMAP items


class DevStats(Record):
    """Error counters of a device (``struct btrfs_dev_stats_item``); key: (0, PERSISTENT_ITEM, devid)."""

    write_errs: U64
    read_errs: U64
    flush_errs: U64
    corruption_errs: U64
    generation_errs: U64


class DevReplace(Record):
    """State of a device replacement (``struct btrfs_dev_replace_item``); key: (0, DEV_REPLACE, 0)."""

    src_devid: U64
    cursor_left: U64  #: physical; what lies before is copied
    cursor_right: U64
    cont_reading_from_srcdev_mode: U64  #: 0 always, 1 avoid
    replace_state: U64  #: 0 never started, 1 started, 2 finished, 3 canceled, 4 suspended
    time_started: U64  #: seconds
    time_stopped: U64  #: seconds
    num_write_errors: U64
    num_uncorrectable_read_errors: U64


class BalanceArgs(Record):
    """Filters of a balance (``struct btrfs_disk_balance_args``)."""

    profiles: U64  #: BlockGroup profiles; bit 48 is single
    usage: U64  #: per cent, or minimum and maximum as two u32
    devid: U64
    pstart: U64  #: physical
    pend: U64
    vstart: U64  #: logical
    vend: U64
    target: U64  #: BlockGroup profile to convert to; bit 48 is single
    flags: U64  #: BalanceArgsFlag
    limit: U64  #: or minimum and maximum as two u32
    stripes_min: U32
    stripes_max: U32
    unused: Annotated[tuple[int, ...], times(6, U64)]


class BalanceItem(Record):
    """An interrupted balance (``struct btrfs_balance_item``); key: (BALANCE, TEMPORARY_ITEM, 0)."""

    flags: U64  #: BalanceFlag
    data: BalanceArgs
    meta: BalanceArgs
    sys: BalanceArgs
    unused: Annotated[tuple[int, ...], times(4, U64)]


class FreeSpaceInfo(Record):
    """Head of a block group in the free space tree (``struct btrfs_free_space_info``).

    Key: (logical, FREE_SPACE_INFO, length), as the block group's.
    """

    extent_count: U32
    flags: U32  #: FreeSpaceFlag


class FreeSpaceHeader(Record):
    """Head of a v1 space cache (``struct btrfs_free_space_header``); key: (FREE_SPACE, 0, logical) in the root tree."""

    location: DiskKey  #: inode in the root tree that holds the cache
    generation: U64
    num_entries: U64
    num_bitmaps: U64


class FreeSpaceEntry(Record):
    """Entry in the data of a v1 space cache (``struct btrfs_free_space_entry``)."""

    offset: U64  #: logical
    bytes: U64
    type: U8  #: 1 extent, 2 bitmap


class RaidStride(Record):
    """One place of an extent in the raid stripe tree (``struct btrfs_raid_stride``); several in one item."""

    devid: U64
    physical: U64


class RemapItem(Record):
    """Where a remapped range went, or came from (``struct btrfs_remap_item``); key: (logical, REMAP, length)."""

    address: U64  #: logical
