"""Bodies of the items that account for space: chunks, devices, block groups, free space, quotas, balance."""

from __future__ import annotations

from btrimg.ondisk import chunks, roots
from btrimg.ondisk.constants import DEV_STATS_OBJECTID, QgroupStatusFlag, TreeId
from btrimg.render.names import block_group_text, date_text, key_text
from btrimg.volume.superblocks import uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.render.dump_files import Lines, Printer
    from btrimg.render.style import Style

# include/uapi/linux/btrfs.h BTRFS_IOCTL_DEV_REPLACE_STATE_*; btrfs_tree.h ..._CONT_READING_FROM_SRCDEV_MODE_*
_REPLACE_STATES = ("NEVER_STARTED", "STARTED", "FINISHED", "CANCELED", "SUSPENDED")
_REPLACE_MODES = ("ALWAYS", "AVOID")

_QGROUP_FLAGS = (
    (QgroupStatusFlag.SIMPLE_MODE, "SIMPLE_MODE"),
    (QgroupStatusFlag.RESCAN, "SCANNING"),
    (QgroupStatusFlag.INCONSISTENT, "INCONSISTENT"),
)


def chunk_lines(chunk: chunks.Chunk) -> Lines:
    """Yield what a chunk item says, in the chunk tree and in a superblock's sys_chunk_array alike."""
    yield (
        f"\t\tlength {chunk.length} owner {chunk.owner} stripe_len {chunk.stripe_len}"
        f" type {block_group_text(chunk.type)}"
    )
    yield f"\t\tio_align {chunk.io_align} io_width {chunk.io_width} sector_size {chunk.sector_size}"
    yield f"\t\tnum_stripes {chunk.num_stripes} sub_stripes {chunk.sub_stripes}"
    for number, stripe in enumerate(chunk.stripes):
        yield f"\t\t\tstripe {number} devid {stripe.devid} offset {stripe.offset}"
        yield f"\t\t\tdev_uuid {uuid_text(stripe.dev_uuid)}"


def _chunk(_key: Key, chunk: chunks.Chunk, _style: Style) -> Lines:
    return chunk_lines(chunk)


def _dev_item(_key: Key, dev: chunks.DevItem, _style: Style) -> Lines:
    yield f"\t\tdevid {dev.devid} total_bytes {dev.total_bytes} bytes_used {dev.bytes_used}"
    yield f"\t\tio_align {dev.io_align} io_width {dev.io_width} sector_size {dev.sector_size} type {dev.type}"
    yield f"\t\tgeneration {dev.generation} start_offset {dev.start_offset} dev_group {dev.dev_group}"
    yield f"\t\tseek_speed {dev.seek_speed} bandwidth {dev.bandwidth}"
    yield f"\t\tuuid {uuid_text(dev.uuid)}"
    yield f"\t\tfsid {uuid_text(dev.fsid)}"


def _dev_extent(_key: Key, extent: chunks.DevExtent, _style: Style) -> Lines:
    yield f"\t\tdev extent chunk_tree {extent.chunk_tree}"
    yield f"\t\tchunk_objectid {extent.chunk_objectid} chunk_offset {extent.chunk_offset} length {extent.length}"
    yield f"\t\tchunk_tree_uuid {uuid_text(extent.chunk_tree_uuid)}"


def _block_group(_key: Key, group: chunks.BlockGroupItem | chunks.BlockGroupItemV2, _style: Style) -> Lines:
    yield (
        f"\t\tblock group used {group.used} chunk_objectid {group.chunk_objectid} flags {block_group_text(group.flags)}"
    )
    if isinstance(group, chunks.BlockGroupItemV2):
        yield f"\t\tremap bytes {group.remap_bytes} identity remap count {group.identity_remap_count}"


def _free_space_header(key: Key, header: chunks.FreeSpaceHeader, _style: Style) -> Lines:
    if key.objectid == TreeId.FREE_SPACE:
        yield f"\t\tlocation {key_text(header.location)}"
        yield (f"\t\tcache generation {header.generation} entries {header.num_entries} bitmaps {header.num_bitmaps}")


def _free_space_info(_key: Key, info: chunks.FreeSpaceInfo, _style: Style) -> Lines:
    yield f"\t\tfree space info extent count {info.extent_count} flags {info.flags}"


def _remap(_key: Key, remap: chunks.RemapItem, _style: Style) -> Lines:
    yield f"\t\taddress {remap.address}"


def _dev_stats(key: Key, stats: chunks.DevStats, _style: Style) -> Lines:
    if key.objectid == DEV_STATS_OBJECTID:
        yield (
            f"\t\twrite_errs {stats.write_errs} read_errs {stats.read_errs} flush_errs {stats.flush_errs}"
            f" corruption_errs {stats.corruption_errs} generation {stats.generation_errs}"
        )


def _name_of(number: int, names: tuple[str, ...]) -> str:
    return names[number] if number < len(names) else f"unknown({number})"


def _dev_replace(_key: Key, replace: chunks.DevReplace, _style: Style) -> Lines:
    mode = _name_of(replace.cont_reading_from_srcdev_mode, _REPLACE_MODES)
    yield (
        f"\t\tsrc devid {_signed(replace.src_devid)} cursor left {replace.cursor_left}"
        f" cursor right {replace.cursor_right} mode {mode}"
    )
    yield (
        f"\t\tstate {_name_of(replace.replace_state, _REPLACE_STATES)} write errors {replace.num_write_errors}"
        f" uncorrectable read errors {replace.num_uncorrectable_read_errors}"
    )
    yield f"\t\tstart time {replace.time_started} ({date_text(replace.time_started)})"
    yield f"\t\tstop time {replace.time_stopped} ({date_text(replace.time_stopped)})"


def _signed(number: int) -> int:
    return number - (number >> 63 << 64)


def _balance(key: Key, balance: chunks.BalanceItem, _style: Style) -> Lines:
    if key.objectid != TreeId.BALANCE:
        return
    yield f"\t\tbalance status flags {balance.flags}"
    for what, args in (("DATA", balance.data), ("METADATA", balance.meta), ("SYSTEM", balance.sys)):
        yield f"\t\t{what}"
        yield f"\t\tprofiles {args.profiles} devid {args.devid} target {args.target} flags {args.flags}"
        usage_max, usage_min = divmod(args.usage, 1 << 32)
        yield f"\t\tusage_min {usage_min} usage_max {usage_max} pstart {args.pstart} pend {args.pend}"
        limit_max, limit_min = divmod(args.limit, 1 << 32)
        yield f"\t\tvstart {args.vstart} vend {args.vend} limit_min {limit_min} limit_max {limit_max}"
        yield f"\t\tstripes_min {args.stripes_min} stripes_max {args.stripes_max}"


def _qgroup_status(_key: Key, status: roots.QgroupStatus, style: Style) -> Lines:
    names = ["ON" if status.flags & QgroupStatusFlag.ON else "OFF"]
    names += [name for bit, name in _QGROUP_FLAGS if status.flags & bit]
    unknown = status.flags & ~sum(QgroupStatusFlag)
    flags = "|".join([*names, f"UNKNOWN(0x{unknown:x})"] if unknown else names)
    enabled = f" enable_gen {status.enable_gen}" if style.simple_quota else ""
    yield f"\t\tversion {status.version} generation {status.generation} flags {flags} scan {status.rescan}{enabled}"


def _qgroup_info(_key: Key, info: roots.QgroupInfo, _style: Style) -> Lines:
    yield f"\t\tgeneration {info.generation}"
    yield f"\t\treferenced {info.rfer} referenced_compressed {info.rfer_cmpr}"
    yield f"\t\texclusive {info.excl} exclusive_compressed {info.excl_cmpr}"


def _qgroup_limit(_key: Key, limit: roots.QgroupLimit, _style: Style) -> Lines:
    yield f"\t\tflags {limit.flags:x}"
    yield f"\t\tmax_referenced {_signed(limit.max_rfer)} max_exclusive {_signed(limit.max_excl)}"
    yield f"\t\trsv_referenced {_signed(limit.rsv_rfer)} rsv_exclusive {_signed(limit.rsv_excl)}"


#: What each kind of record says.
PRINTERS: dict[type[Record], Printer] = {
    chunks.Chunk: _chunk,
    chunks.DevItem: _dev_item,
    chunks.DevExtent: _dev_extent,
    chunks.BlockGroupItem: _block_group,
    chunks.BlockGroupItemV2: _block_group,
    chunks.FreeSpaceHeader: _free_space_header,
    chunks.FreeSpaceInfo: _free_space_info,
    chunks.RemapItem: _remap,
    chunks.DevStats: _dev_stats,
    chunks.DevReplace: _dev_replace,
    chunks.BalanceItem: _balance,
    roots.QgroupStatus: _qgroup_status,
    roots.QgroupInfo: _qgroup_info,
    roots.QgroupLimit: _qgroup_limit,
}
